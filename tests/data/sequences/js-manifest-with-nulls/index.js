module.exports = () => "nulls";
