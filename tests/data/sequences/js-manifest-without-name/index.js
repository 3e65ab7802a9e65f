module.exports = () => "nameless";
