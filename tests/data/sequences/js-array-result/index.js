module.exports = () => [{ n: 1 }, { n: 2 }];
