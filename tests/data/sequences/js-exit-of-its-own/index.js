module.exports = async (input) => { for await (const chunk of input) process.exit(3); };
