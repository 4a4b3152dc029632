// Package images packs container images without a registry and without a
// container engine: static Go programs, alone or on a small userland of Debian
// packages, as archives for `ctr images import`.
//
// An archive is a function of what goes into it: files are sorted, and have no
// times and no owners but root.
package images
