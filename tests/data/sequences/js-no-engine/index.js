module.exports = () => "no engine";
