module.exports = function () {
    try {
        this.save({ n: 1 });
    } catch (error) {
        return `${error.message} ${this.initialState}`;
    }
};
