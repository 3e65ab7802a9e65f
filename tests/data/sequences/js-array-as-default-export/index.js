exports.default = [
    { requires: "corpus-js-default", contentType: "text/plain" },
    async function* (input) { for await (const chunk of input) yield { got: String(chunk) }; },
];
