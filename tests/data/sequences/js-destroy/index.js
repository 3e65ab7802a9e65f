module.exports = function () {
    this.destroy(new Error("by design"));
    return "the last word";
};
