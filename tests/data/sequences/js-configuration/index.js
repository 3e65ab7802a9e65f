module.exports = function () { return JSON.stringify(this.config); };
