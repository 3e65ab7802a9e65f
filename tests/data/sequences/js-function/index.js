module.exports = (input) => input.map((text) => text.toUpperCase());
