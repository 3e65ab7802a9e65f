exports.said = "beside";
