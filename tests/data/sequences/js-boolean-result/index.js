module.exports = async () => false;
