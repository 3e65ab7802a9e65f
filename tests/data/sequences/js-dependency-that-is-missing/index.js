module.exports = require("nowhere");
