package compile

// LeftAtMost lets tests have policies put back sooner.
var LeftAtMost = &leftAtMost
