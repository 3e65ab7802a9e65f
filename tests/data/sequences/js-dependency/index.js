const { mark } = require("marks");
const shout = require("shouting");

module.exports = () => [shout("a"), mark, require("shouting/package.json").version];
