package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTheAgentDoesNotKnowAllOfKubernetes: what it is linked with takes memory on every node, whether it is used
// or not. These would double the agent's.
func TestTheAgentDoesNotKnowAllOfKubernetes(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dependency := range strings.Fields(string(out)) {
		for _, large := range []string{"k8s.io/apiserver/", "k8s.io/client-go/kubernetes", "k8s.io/client-go/informers",
			"sigs.k8s.io/controller-runtime/pkg/client", "sigs.k8s.io/controller-runtime/pkg/manager"} {
			if strings.HasPrefix(dependency, large) {
				t.Errorf("the agent depends on %s", dependency)
			}
		}
	}
}
