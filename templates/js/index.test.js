"use strict";

const assert = require("node:assert/strict");
const { Readable } = require("node:stream");
const test = require("node:test");

const transform = require("./index.js");

/** Return what the Sequence makes of chunks of text. */
async function outputs(chunks, ...args) {
    let output = "";
    for await (const chunk of transform(Readable.from(chunks), ...args)) output += chunk;
    return output;
}

test("lines are numbered, and blank ones left out", async () => {
    assert.equal(await outputs(["one\n", "\n", "two"]), "1 one\n2 two\n");
});

test("cuts change nothing", async () => {
    assert.equal(await outputs([..."one\n\ntwo\n"]), "1 one\n2 two\n");
});

test("the first number is an argument", async () => {
    assert.equal(await outputs(["one\n"], 7), "7 one\n");
});

test("no lines give no lines", async () => {
    assert.equal(await outputs([]), "");
});
