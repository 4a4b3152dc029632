package contenthash

import (
	"strings"
	"testing"
)

// Contents that have one hash get IDs of their own, and keep them while they are there.
func TestContentsOfOneHashHaveIDsOfTheirOwn(t *testing.T) {
	table := NewTable[string, string]()
	put := func(content string) string {
		_, id, found := table.Find("h", func(v string) bool { return v == content })
		if !found {
			table.Put("h", id, content)
		}
		return id
	}
	for content, want := range map[string]string{"a": "h"} {
		if id := put(content); id != want {
			t.Errorf("%s has the ID %s", content, id)
		}
	}
	if b, c := put("b"), put("c"); b != "h-2" || c != "h-3" {
		t.Errorf("the second and third content have the IDs %s and %s", b, c)
	}
	table.Remove("h")
	if id := put("c"); id != "h-3" {
		t.Errorf("a content that is there got another ID, %s, after one before it went", id)
	}
	table.Remove("h-2")
	if d, e, f := put("d"), put("e"), put("f"); d != "h" || e != "h-2" || f != "h-4" {
		t.Errorf("free IDs are not used again: %s, %s, %s", d, e, f)
	}
	for id, content := range map[string]string{"h": "d", "h-2": "e", "h-3": "c", "h-4": "f"} {
		if table.All()[id] != content {
			t.Errorf("%s is %q", id, table.All()[id])
		}
	}
}

func TestTheHashHasTheWidthOfTheBuild(t *testing.T) {
	if sum := Sum([]byte("x")); len(sum) != 2*width || strings.Trim(sum, "0123456789abcdef") != "" {
		t.Errorf("the hash is %q", sum)
	}
}
