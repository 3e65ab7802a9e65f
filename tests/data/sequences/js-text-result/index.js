module.exports = async (input) => {
    let length = 0;
    for await (const chunk of input) length += chunk.length;
    return `${length} characters`;
};
