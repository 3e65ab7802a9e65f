module.exports = async () => (await import("modern")).default;
