module.exports = function () {
    this.addStopHandler((timeout, canCallKeepalive) => { console.log("stopping", timeout, canCallKeepalive); });
    this.emit("ready");
    return new Promise(() => { setInterval(() => {}, 1000); });
};
