module.exports = () => "with a dot";
