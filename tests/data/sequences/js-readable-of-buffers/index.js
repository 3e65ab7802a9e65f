const { Readable } = require("stream");

module.exports = () => Readable.from([Buffer.from([0, 255, 128]), Buffer.from([10, 13, 254])], { objectMode: false });
