// A Sequence for Node.js: lines in, numbered lines out. Put what your program does into the loop.
"use strict";

const { Readable } = require("node:stream");

/** Yield the lines of a stream of text, without their line ends. */
async function* lines(input) {
    let rest = "";
    for await (const chunk of input) {
        const parts = (rest + chunk).split("\n"); // a chunk may be cut anywhere
        rest = parts.pop();
        yield* parts;
    }
    if (rest) yield rest;
}

/** Yield each line that is not blank, with its number in front. */
async function* numbered(input, first = 1) {
    let number = first;
    for await (const line of lines(input)) {
        const text = line.trim();
        if (text) yield `${number++} ${text}\n`;
    }
}

module.exports = function (input, first) {
    // A generator by itself would be lines of JSON; a stream of text goes out as it is.
    return Readable.from(numbered(input, first), { objectMode: false, encoding: "utf8" });
};
