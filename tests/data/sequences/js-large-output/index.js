module.exports = function* () { for (let n = 0; n < 20000; n++) yield n; };
