const { Readable } = require("stream");

module.exports = [
    function* () { yield 1; yield 2; },
    async (input) => { const all = []; for await (const n of input) all.push(n + 10); return all; },
    async (input) => input.filter((n) => n > 11),
    (input) => Readable.from((async function* () { for await (const n of input) yield `${n}!`; })()),
];
