const { PassThrough } = require("stream");

module.exports = function (input) {
    const output = new PassThrough({ encoding: "utf8" });
    (async () => { for await (const chunk of input) output.write(`hello ${chunk}`); })();
    return Object.assign(output, { topic: "corpus-js-text", contentType: "text/plain" });
};
