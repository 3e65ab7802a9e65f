const { Worker } = require("worker_threads");

module.exports = () => new Promise((resolve) => {
    new Worker(`${__dirname}/worker.js`, { workerData: 6 }).once("message", (message) => resolve(`${message}`));
});
