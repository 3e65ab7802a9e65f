const { Transform } = require("stream");

module.exports = (input) => input.pipe(new Transform({
    writableObjectMode: true,
    transform(chunk, encoding, done) { done(null, String(chunk).toUpperCase()); },
}));
