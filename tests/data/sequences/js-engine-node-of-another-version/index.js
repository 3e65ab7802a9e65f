module.exports = () => "another version";
