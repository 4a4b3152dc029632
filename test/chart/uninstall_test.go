package chart

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

var admissionResources = map[string]string{
	"ValidatingWebhookConfiguration":   "validatingwebhookconfigurations",
	"MutatingWebhookConfiguration":     "mutatingwebhookconfigurations",
	"ValidatingAdmissionPolicy":        "validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}

// TestUninstallMayDeleteEveryAdmissionObject: what it forgets would judge
// requests of a cluster that has no tierwall any more.
func TestUninstallMayDeleteEveryAdmissionObject(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		role := all[slices.IndexFunc(all, func(o object) bool { return o.String() == "ClusterRole tierwall-uninstall" })]
		found := 0
		for _, o := range all {
			resource, ok := admissionResources[o.kind]
			if !ok {
				continue
			}
			found++
			if !mayDelete(role.Object.(*rbacv1.ClusterRole).Rules, resource, o.GetName()) {
				t.Errorf("the uninstall hook may not delete %s", o)
			}
		}
		if found == 0 {
			t.Error("the chart has no admission objects")
		}
	})
}

func mayDelete(rules []rbacv1.PolicyRule, resource, name string) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return has(r.Verbs, "delete") && has(r.Resources, resource) && has(r.ResourceNames, name)
	})
}

// TestHooksLeaveNothing: Helm does not delete hooks with the release.
func TestHooksLeaveNothing(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		for _, o := range all {
			if o.GetAnnotations()["helm.sh/hook"] == "" {
				continue
			}
			policies := strings.Split(o.GetAnnotations()["helm.sh/hook-delete-policy"], ",")
			if !has(policies, "hook-succeeded") || !has(policies, "before-hook-creation") {
				t.Errorf("hook %s stays behind: %q", o, policies)
			}
		}
	})
}

// TestUninstallJobsComeLast: their rights have to be there before they start.
func TestUninstallJobsComeLast(t *testing.T) {
	for _, event := range []string{"pre-delete", "post-delete"} {
		last, weights := "", map[int]string{}
		highest := -1 << 31
		for _, o := range objects(t, variants[0]) {
			if !has(strings.Split(o.GetAnnotations()["helm.sh/hook"], ","), event) {
				continue
			}
			weight, err := strconv.Atoi(o.GetAnnotations()["helm.sh/hook-weight"])
			if err != nil {
				t.Fatal(err)
			}
			if weight > highest {
				highest, last = weight, o.kind
			}
			weights[weight] += o.String() + " "
		}
		if last != "Job" || len(strings.Fields(weights[highest])) != 2 {
			t.Errorf("%s: the hooks by weight are %v, want one Job last", event, weights)
		}
	}
}
