const { readFile } = require("fs/promises");

module.exports = async () => readFile("said.txt", "utf8");
