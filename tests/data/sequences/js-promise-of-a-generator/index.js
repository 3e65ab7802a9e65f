async function* numbers() { yield 1; yield 2; }

module.exports = async () => numbers();
