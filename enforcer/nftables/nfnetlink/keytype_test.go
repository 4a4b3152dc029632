package nfnetlink

import (
	"slices"
	"testing"
)

// Whatever a key looks like, it is understood as nft would, or left to nft.
func TestKeysThatAreLeftToNft(t *testing.T) {
	types := map[string][]string{
		"ipv4_addr":                 {"", "10.0.0", "10.0.0.256", "fd00::1", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.0/33", "10.0.0.1 . 6"},
		"inet_proto . inet_service": {"6", "256 . 1", "6 . 65536", "6 . 90-80", "-1 . 1", "6 . 80-", "6 . http", "6 . 80 . 1"},
		"ipv4_addr . ether_addr":    {"10.0.0.1 . 00:00:00:00:00:00"},
		"ipv6_addr . inet_service ": {"fd00::1 . 80"},
		"ipv6_addr . inet_service":  {"10.0.0.1 . 80", "fd00::1%eth0 . 80", "::ffff:10.0.0.1-fd00::1 . "},
		"":                          {""},
	}
	for text, keys := range types {
		for _, k := range keys {
			kind, ok := ParseKeyType(text)
			if ok {
				_, _, ok = kind.encodeKey(k)
			}
			if ok {
				t.Errorf("%q is taken for a key of %q", k, text)
			}
		}
	}
	kind, _ := ParseKeyType("ipv4_addr . inet_proto . inet_service")
	first, last, ok := kind.encodeKey("10.0.0.0/9 . 17 . 80-65535")
	if !ok || !slices.Equal(first, []byte{10, 0, 0, 0, 17, 0, 0, 0, 0, 80, 0, 0}) || !slices.Equal(last, []byte{10, 127, 255, 255, 17, 0, 0, 0, 255, 255, 0, 0}) {
		t.Errorf("%v %v", first, last)
	}
}
