const { readFileSync } = require("fs");

module.exports = () => [require("./beside").said, readFileSync("near.txt", "utf8"), readFileSync(`${__dirname}/far.txt`, "utf8")];
