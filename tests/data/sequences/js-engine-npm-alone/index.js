module.exports = () => "npm";
