// Package version holds the version that the binaries were built as.
package version

// Version is set by the linker; "dev" is a build from a work tree.
var Version = "dev"
