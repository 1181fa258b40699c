package aggregate

// AreaOf is areaOf, for tests.
var AreaOf = areaOf
