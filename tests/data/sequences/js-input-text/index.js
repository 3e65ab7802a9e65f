module.exports = async function (input) {
    let text = "";
    for await (const chunk of input) {
        if (typeof chunk !== "string") throw new TypeError(`a chunk is a ${typeof chunk}`);
        text += chunk;
    }
    return text;
};
