module.exports = () => {
    console.log("to stdout", { a: 1 });
    console.error("to stderr");
    process.stdout.write("no line");
    console.warn("a warning");
    return "";
};
