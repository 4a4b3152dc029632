package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli/manifest"
)

func repeated(n int, file, other string) (out []manifest.Error) {
	for i := range n {
		out = append(out, manifest.Error{File: file, Object: fmt.Sprintf("Deployment argo/%d", i), Message: "is also in " + other, AlsoIn: other})
	}
	return out
}

// Several installations in one folder are one error, beside what else is wrong.
func TestObjectsThatAreThereTwiceAreToldTogether(t *testing.T) {
	other := manifest.Error{File: "x.yaml", Message: "is broken"}
	texts := ErrorTexts(append(append(repeated(60, "ha.yaml", "plain.yaml"), other), repeated(40, "core.yaml", "plain.yaml")...))
	if len(texts) != 2 || texts[0] != "x.yaml: is broken" {
		t.Fatalf("%q", texts)
	}
	for _, want := range []string{"100 objects are there more than once, such as Deployment argo/0", "ha.yaml repeats 60 of plain.yaml", "core.yaml repeats 40 of plain.yaml", "--exclude"} {
		if !strings.Contains(texts[1], want) {
			t.Errorf("%q does not say %q", texts[1], want)
		}
	}
}

// A mistake or two stay as they are, with file and object.
func TestAFewObjectsThatAreThereTwiceAreToldEach(t *testing.T) {
	if texts := ErrorTexts(repeated(2, "b.yaml", "a.yaml")); len(texts) != 2 || texts[1] != "b.yaml: Deployment argo/1: is also in a.yaml" {
		t.Errorf("%q", texts)
	}
}

func TestManyFilesThatRepeatOthersAreCut(t *testing.T) {
	var errs []manifest.Error
	for i := range 30 {
		errs = append(errs, repeated(5, fmt.Sprintf("%d.yaml", i), "a.yaml")...)
	}
	texts := ErrorTexts(errs)
	if len(texts) != 1 || len(texts[0]) > 600 || !strings.Contains(texts[0], "and 27 more files") {
		t.Errorf("%q", texts)
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	var errs []manifest.Error
	for i := range 50 {
		errs = append(errs, manifest.Error{File: fmt.Sprintf("%d.yaml", i), Message: "is broken"})
	}
	if texts := ErrorTexts(errs); len(texts) != shownErrors+1 || texts[shownErrors] != "and 30 more; check -o json lists them" {
		t.Errorf("%q", texts)
	}
}
