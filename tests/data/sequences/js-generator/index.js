module.exports = function* () { yield 1; yield { b: true }; };
