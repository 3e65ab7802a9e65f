const { Readable } = require("stream");

module.exports = async () => { await null; return Readable.from(["later"], { objectMode: false }); };
