const { execFileSync } = require("child_process");

module.exports = () => execFileSync(process.execPath, ["node_modules/.bin/shout", "ahoj"], { encoding: "utf8" });
