module.exports = function () {
    this.addKillHandler(() => { console.log("first"); }).addKillHandler(() => { console.log("second"); });
    return "to be killed";
};
