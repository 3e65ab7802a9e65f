const { readFileSync } = require("fs");
const { join } = require("path");

const WORDS = readFileSync(join(__dirname, "data", "words.txt"), "utf8").trim().split("\n");

module.exports = () => [...WORDS, require("./data/more.json").word];
