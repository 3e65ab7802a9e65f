module.exports = () => new Promise((resolve) => {
    process.stdin.once("data", (chunk) => resolve(`read ${chunk}`));
});
