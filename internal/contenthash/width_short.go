//go:build shorthash

package contenthash

// width is the number of bytes of a hash.
const width = 1
