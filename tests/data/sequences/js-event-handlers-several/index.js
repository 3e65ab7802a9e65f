module.exports = function () {
    this.on("own", () => { console.log("never"); });
    this.emit("own", "sent");
    return new Promise((resolve) => {
        this.on("ping", (message) => { console.log("first", message); });
        this.on("ping", (message) => { console.log("second", message); resolve("both"); });
    });
};
