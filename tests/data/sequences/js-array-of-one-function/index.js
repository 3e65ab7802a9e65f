module.exports = [() => [1]];
