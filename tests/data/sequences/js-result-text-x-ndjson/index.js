const { Readable } = require("stream");

module.exports = () => Object.assign(Readable.from([{ a: 1 }]), { contentType: "text/x-ndjson" });
