async function* words(input) {
    let text = "";
    for await (const chunk of input) text += chunk;
    yield* text.split(" ");
}

async function* times(input, count) {
    for await (const word of input) yield word.repeat(count);
}

module.exports = [words, times, (input, count) => input.map((word) => ({ word, count }))];
