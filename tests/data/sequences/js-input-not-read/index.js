module.exports = () => "no, thanks";
