module.exports = function (input) {
    const output = (async function* () {
        yield { ready: true };
        for await (const chunk of input) yield { got: String(chunk) };
        await new Promise(() => { setInterval(() => {}, 1000); });
    })();
    return Object.assign(output, { topic: "corpus-js-ndjson", contentType: "application/x-ndjson" });
};
