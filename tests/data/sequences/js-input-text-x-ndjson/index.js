module.exports = async function* (input) { for await (const { n } of input) yield n; };
