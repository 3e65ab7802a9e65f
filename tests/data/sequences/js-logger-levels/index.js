module.exports = function () {
    for (const level of ["trace", "debug", "info", "warn", "error", "fatal"]) this.logger[level](`as ${level}`, { a: 1 });
    return "logged";
};
