module.exports = function () {
    let n = 0;
    const timer = setInterval(() => {
        console.log(n++);
        if (n === 3) { clearInterval(timer); this.emit("done", n); }
    }, 10);
    return "at once";
};
