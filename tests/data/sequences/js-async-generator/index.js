module.exports = async function* () { yield { a: 1 }; yield [null, "ü"]; yield "text"; };
