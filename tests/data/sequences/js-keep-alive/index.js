module.exports = function () {
    return new Promise((resolve) => {
        this.addStopHandler(() => {
            this.keepAlive(20000);
            resolve("lived on");
        });
        this.emit("ready");
    });
};
