package images

import (
	"fmt"
	"os"
	"path/filepath"
)

// CacheDir is where what is built once is kept: $TIERWALL_CACHE, or tierwall
// in the user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv("TIERWALL_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory (or set TIERWALL_CACHE): %w", err)
	}
	return filepath.Join(dir, "tierwall"), nil
}
