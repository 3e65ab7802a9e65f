module.exports = () => { console.log("ran"); };
