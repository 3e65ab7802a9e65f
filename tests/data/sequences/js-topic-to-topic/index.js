const { PassThrough } = require("stream");

module.exports = [
    { requires: "corpus-js-from", contentType: "application/x-ndjson" },
    function (input) {
        const output = new PassThrough({ objectMode: true });
        (async () => { for await (const { name } of input) output.write({ hello: name }); })();
        return Object.assign(output, { topic: "corpus-js-to", contentType: "application/x-ndjson" });
    },
];
