const { Readable } = require("stream");

module.exports = () => Object.assign(Readable.from([{ a: 1 }, { b: [2] }]), { contentType: "application/x-ndjson" });
