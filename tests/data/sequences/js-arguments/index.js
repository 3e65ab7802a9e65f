module.exports = (input, ...args) => JSON.stringify(args);
