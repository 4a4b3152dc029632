//go:build !shorthash

package contenthash

import "crypto/sha256"

// width is the number of bytes of a hash.
const width = sha256.Size
