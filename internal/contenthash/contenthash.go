// Package contenthash names content by a hash of it. Equal names do not prove equal content: whoever
// uses one as an identity compares the content behind it, and tells a clash apart by a number.
//
// The hash is a whole SHA-256. With the build tag shorthash, which only tests are built with, it has 8 bits, so
// that clashes occur all the time and their resolution is tested.
package contenthash

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Sum is the hash of a content, in hexadecimal digits.
func Sum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:width])
}

// Numbered is the n-th name that content with a hash gets; the first is the hash itself.
func Numbered[ID ~string](hash ID, n int) ID {
	if n <= 1 {
		return hash
	}
	return ID(fmt.Sprintf("%s-%d", hash, n))
}
