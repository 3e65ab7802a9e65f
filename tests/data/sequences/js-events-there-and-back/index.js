module.exports = function () {
    return new Promise((resolve) => {
        this.on("ping", (message) => {
            this.emit("pong", { got: message });
            resolve("answered");
        });
        this.emit("ready", 1);
    });
};
