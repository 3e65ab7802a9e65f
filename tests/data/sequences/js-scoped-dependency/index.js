const { greet } = require("@corpus/greeting/polite");

module.exports = (input, name) => greet(name);
