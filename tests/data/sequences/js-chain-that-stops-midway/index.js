module.exports = [() => undefined, (input) => input];
