module.exports = [
    { requires: "corpus-js-requires", contentType: "application/x-ndjson" },
    async function* (input) { for await (const { n } of input) yield { twice: 2 * n }; },
];
