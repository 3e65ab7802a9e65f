module.exports = function () {
    this.end();
    return "the last word";
};
