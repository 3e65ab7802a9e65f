const { PassThrough } = require("stream");

module.exports = function () {
    const output = new PassThrough({ encoding: "utf8" });
    output.write("begun ");
    this.addStopHandler(() => { output.end("and ended"); });
    this.emit("ready");
    return output;
};
