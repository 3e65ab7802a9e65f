const { parentPort, workerData } = require("worker_threads");

parentPort.postMessage(7 * workerData);
