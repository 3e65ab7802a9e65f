module.exports = async function* (input) {
    for await (const item of input) yield [typeof item, item];
};
