module.exports = function () {
    this.addMonitoringHandler(() => ({ healthy: false })).addMonitoringHandler(() => ({ healthy: true }));
    return new Promise((resolve) => { this.on("enough", () => resolve("seen")); });
};
