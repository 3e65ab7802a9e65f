module.exports = (input, a, b = "b", c = "c") => [a, b, c];
