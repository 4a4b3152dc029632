package chart

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestProgramsKnowTheirArguments runs every container's program with the
// arguments that the chart gives it, and --help, which does nothing but parse.
func TestProgramsKnowTheirArguments(t *testing.T) {
	for _, name := range []string{"enforcer", "webhook", "cni", "hooks"} {
		if err := build(repository, name, "./cmd/"+name); err != nil {
			t.Fatal(err)
		}
	}
	forEveryVariant(t, func(t *testing.T, all []object) {
		for _, o := range all {
			pod, _ := podOf(o)
			for _, c := range pod.Containers {
				program := filepath.Join(programs, programOf(c))
				cmd := exec.CommandContext(t.Context(), program, append(slices.Clone(c.Args), "--help")...)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %s %s: %v\n%s", o, programOf(c), strings.Join(c.Args, " "), err, out)
				}
			}
		}
	})
}

// programOf is the program of a container of ours: that of its image, such as webhook of
// tierwall/webhook:0.1.0, or another that it names.
func programOf(c corev1.Container) string {
	if len(c.Command) > 0 {
		return strings.TrimPrefix(c.Command[0], "/tierwall-")
	}
	name, _, _ := strings.Cut(filepath.Base(c.Image), ":")
	return name
}
