package report

import (
	"fmt"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/internal/unenforced"
)

// shown is how many entries of a list are shown to people.
const shown = 8

// Notes says for people what was read otherwise than it is written, what was not read, and
// which policies other engines enforce.
func Notes(reading manifest.Reading, others []unenforced.Count) []string {
	var out []string
	for i, e := range reading.Warnings {
		if i == shown {
			out = append(out, fmt.Sprintf("warning: and %d more of what is read otherwise", len(reading.Warnings)-shown))
			break
		}
		out = append(out, "warning: "+e.Error())
	}
	for _, c := range others {
		out = append(out, "warning: "+c.String())
	}
	for i, e := range reading.Skipped {
		if i == shown {
			out = append(out, fmt.Sprintf("not read: and %d more files without objects", len(reading.Skipped)-shown))
			break
		}
		out = append(out, "not read: "+e.Error())
	}
	if reading.Excluded > 0 {
		out = append(out, "not read: "+plural(reading.Excluded, "file")+" or folders that are excluded")
	}
	return out
}
