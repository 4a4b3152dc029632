package chart

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// rulesOf are the rules of a role, and whether they hold in the whole cluster.
func rulesOf(o object) (rules []rbacv1.PolicyRule, everywhere bool) {
	switch role := o.Object.(type) {
	case *rbacv1.ClusterRole:
		return role.Rules, true
	case *rbacv1.Role:
		return role.Rules, false
	}
	return nil, false
}

func TestRightsAreTheLeast(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		for _, o := range all {
			rules, everywhere := rulesOf(o)
			for _, rule := range rules {
				for _, why := range excessive(rule, everywhere) {
					t.Errorf("%s: %s in %+v", o, why, rule)
				}
			}
		}
	})
}

// excessive says what of a rule gives more than any part of tierwall needs.
func excessive(rule rbacv1.PolicyRule, everywhere bool) []string {
	var why []string
	if has(rule.Verbs, "*") || has(rule.Resources, "*") || has(rule.APIGroups, "*") || has(rule.NonResourceURLs, "*") {
		why = append(why, "a wildcard")
	}
	if has(rule.Verbs, "escalate", "bind", "impersonate") {
		why = append(why, "a way to more rights")
	}
	if everywhere && has(rule.Resources, "secrets", "pods/exec", "serviceaccounts/token") {
		why = append(why, "secrets, shells or tokens of the whole cluster")
	}
	if has(rule.Verbs, "delete", "deletecollection") && len(rule.ResourceNames) == 0 {
		why = append(why, "deletion without names")
	}
	if has(rule.Resources, "secrets") && !has(rule.Verbs, "create") && len(rule.ResourceNames) == 0 {
		why = append(why, "secrets without names")
	}
	if has(rule.Resources, "pods", "daemonsets", "deployments") && has(rule.Verbs, "create") {
		why = append(why, "new pods")
	}
	return why
}

// TestEnforcerOnlyReads: the account that is on every node changes nothing, and tells by Events.
func TestEnforcerOnlyReads(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		role := all[slices.IndexFunc(all, func(o object) bool { return o.String() == "ClusterRole tierwall-enforcer" })]
		rules, _ := rulesOf(role)
		for _, rule := range rules {
			asks := slices.Equal(rule.Resources, []string{"events"}) || slices.Equal(rule.Resources, []string{"tokenreviews"}) || slices.Equal(rule.Resources, []string{"subjectaccessreviews"})
			if !asks && has(rule.Verbs, "create", "update", "patch", "delete", "deletecollection") {
				t.Errorf("it changes %v: %v", rule.Resources, rule.Verbs)
			}
		}
	})
}

func has(list []string, any ...string) bool {
	return slices.ContainsFunc(any, func(s string) bool { return slices.Contains(list, s) })
}

// TestBindingsLeadSomewhere: every binding binds a role and an account of the chart.
func TestBindingsLeadSomewhere(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		there := map[string]bool{}
		for _, o := range all {
			there[o.String()] = true
		}
		for _, o := range all {
			var role rbacv1.RoleRef
			var subjects []rbacv1.Subject
			switch b := o.Object.(type) {
			case *rbacv1.ClusterRoleBinding:
				role, subjects = b.RoleRef, b.Subjects
			case *rbacv1.RoleBinding:
				role, subjects = b.RoleRef, b.Subjects
			default:
				continue
			}
			for _, s := range subjects {
				if s.Namespace != namespace || !there[s.Kind+" "+s.Name] {
					t.Errorf("%s binds %s %s/%s, which is not the chart's", o, s.Kind, s.Namespace, s.Name)
				}
			}
			if own := there[role.Kind+" "+role.Name]; !own && !slices.Contains(foreignRoles, role.Name) {
				t.Errorf("%s binds %s %s, which is not the chart's", o, role.Kind, role.Name)
			}
		}
	})
}

// foreignRoles are roles of Kubernetes itself that the chart binds.
var foreignRoles = []string{"extension-apiserver-authentication-reader"}
