module.exports = function (input, who) { return `for ${who}`; };
