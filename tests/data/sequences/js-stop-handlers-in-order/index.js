module.exports = function () {
    this.addStopHandler(async () => {
        await new Promise((resolve) => { setTimeout(resolve, 20); });
        console.log("first");
    }).addStopHandler(() => { console.log("second"); });
    this.emit("ready");
    return new Promise(() => { setInterval(() => {}, 1000); });
};
