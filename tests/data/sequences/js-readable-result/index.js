const { Readable } = require("stream");

module.exports = () => Readable.from(["no line", " end here, ", "žluťoučký\n"], { objectMode: false });
