module.exports = function () {
    this.describe({ mode: "object", name: "described" });
    return JSON.stringify(this.definition);
};
