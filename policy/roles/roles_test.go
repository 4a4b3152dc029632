package roles_test

import (
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
)

func tierRole(name, role string, change func(*v1alpha1.TierRoleSpec)) *v1alpha1.TierRole {
	tr := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.TierRoleSpec{Role: role, Namespaces: []string{"prod"}}}
	if change != nil {
		change(&tr.Spec)
	}
	return tr
}

func accounts(names ...string) func(*v1alpha1.TierRoleSpec) {
	return func(s *v1alpha1.TierRoleSpec) { s.ServiceAccounts = names }
}

func labelled(key, value string) func(*v1alpha1.TierRoleSpec) {
	return func(s *v1alpha1.TierRoleSpec) {
		s.PodSelector = &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
}

func TestOf(t *testing.T) {
	whole := tierRole("whole", "frontend", nil)
	byLabel := tierRole("by-label", "backend", labelled("app", "db"))
	byAccount := tierRole("by-account", "data", accounts("db"))
	for _, c := range []struct {
		name                string
		roles               []*v1alpha1.TierRole
		namespace, account  string
		labels              map[string]string
		role, by, conflicts string
	}{
		{"no TierRole", nil, "prod", "db", nil, "", "", ""},
		{"by the namespace", []*v1alpha1.TierRole{whole}, "prod", "any", nil, "frontend", "whole", ""},
		{"another namespace", []*v1alpha1.TierRole{whole}, "test", "any", nil, "", "", ""},
		{"by labels before by namespace", []*v1alpha1.TierRole{whole, byLabel}, "prod", "any", map[string]string{"app": "db"}, "backend", "by-label", ""},
		{"labels that do not match", []*v1alpha1.TierRole{whole, byLabel}, "prod", "any", map[string]string{"app": "web"}, "frontend", "whole", ""},
		{"by service account before by labels", []*v1alpha1.TierRole{whole, byLabel, byAccount}, "prod", "db", map[string]string{"app": "db"}, "data", "by-account", ""},
		{"no service account is default", []*v1alpha1.TierRole{tierRole("d", "data", accounts("default"))}, "prod", "", nil, "data", "d", ""},
		{"service account and labels must both match", []*v1alpha1.TierRole{tierRole("both", "data", func(s *v1alpha1.TierRoleSpec) {
			accounts("db")(s)
			labelled("app", "db")(s)
		})}, "prod", "db", nil, "", "", ""},
		{"among equals the first by name", []*v1alpha1.TierRole{tierRole("b", "data", nil), tierRole("a", "frontend", nil)}, "prod", "x", nil, "frontend", "a", "b"},
		{"equals that agree do not conflict", []*v1alpha1.TierRole{tierRole("b", "data", nil), tierRole("a", "data", nil)}, "prod", "x", nil, "data", "a", ""},
		{"a less specific one does not conflict", []*v1alpha1.TierRole{whole, byAccount}, "prod", "db", nil, "data", "by-account", ""},
		{"a role label of its own counts for nothing", []*v1alpha1.TierRole{whole}, "test", "x", map[string]string{v1alpha1.RoleLabel: "data"}, "", "", ""},
		{"one that mentions the role label binds nothing", []*v1alpha1.TierRole{tierRole("self", "data", labelled(v1alpha1.RoleLabel, "data"))}, "prod", "x", map[string]string{v1alpha1.RoleLabel: "data"}, "", "", ""},
		{"a role that is no label value binds nothing", []*v1alpha1.TierRole{tierRole("bad", "Not A Label", nil)}, "prod", "x", nil, "", "", ""},
		{"a namespace named twice counts once", []*v1alpha1.TierRole{tierRole("twice", "data", func(s *v1alpha1.TierRoleSpec) { s.Namespaces = []string{"prod", "prod"} })}, "prod", "x", nil, "data", "twice", ""},
	} {
		got := roles.New(c.roles).Of(c.namespace, c.account, c.labels)
		if got.Role != c.role || got.TierRole != c.by || !slices.Equal(got.Conflicts, conflicts(c.conflicts)) {
			t.Errorf("%s: %+v, want role %q by %q, conflicts %q", c.name, got, c.role, c.by, c.conflicts)
		}
	}
}

func conflicts(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

func TestApplyShowsTheComputedRoleAlone(t *testing.T) {
	for _, c := range []struct {
		name, role   string
		given, shown map[string]string
	}{
		{"missing", "data", map[string]string{"app": "db"}, map[string]string{"app": "db", v1alpha1.RoleLabel: "data"}},
		{"forged", "frontend", map[string]string{v1alpha1.RoleLabel: "data"}, map[string]string{v1alpha1.RoleLabel: "frontend"}},
		{"forged without any role", "", map[string]string{v1alpha1.RoleLabel: "data"}, map[string]string{}},
		{"forged to be empty", "", map[string]string{v1alpha1.RoleLabel: ""}, map[string]string{}},
		{"right", "data", map[string]string{v1alpha1.RoleLabel: "data"}, map[string]string{v1alpha1.RoleLabel: "data"}},
		{"no labels at all", "data", nil, map[string]string{v1alpha1.RoleLabel: "data"}},
		{"no labels and no role", "", nil, nil},
	} {
		before := maps.Clone(c.given)
		if got := (roles.Match{Role: c.role}).Apply(c.given); !maps.Equal(got, c.shown) {
			t.Errorf("%s: %v, want %v", c.name, got, c.shown)
		}
		if !maps.Equal(before, c.given) {
			t.Errorf("%s: the labels given were changed to %v", c.name, c.given)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		tr   *v1alpha1.TierRole
		want string
	}{
		"sound":             {tierRole("a", "data", labelled("app", "db")), ""},
		"no namespace":      {tierRole("a", "data", func(s *v1alpha1.TierRoleSpec) { s.Namespaces = nil }), "spec.namespaces"},
		"a bad namespace":   {tierRole("a", "data", func(s *v1alpha1.TierRoleSpec) { s.Namespaces = []string{"*"} }), "spec.namespaces[0]"},
		"no role":           {tierRole("a", "", nil), "spec.role"},
		"a bad selector":    {tierRole("a", "data", labelled("not a label", "x")), "spec.podSelector.matchLabels"},
		"its own role":      {tierRole("a", "data", labelled(v1alpha1.RoleLabel, "x")), "spec.podSelector"},
		"its role existing": {tierRole("a", "data", func(s *v1alpha1.TierRoleSpec) { s.PodSelector = roleExists() }), "spec.podSelector"},
	} {
		errs := roles.Validate(c.tr)
		if c.want == "" {
			if len(errs) > 0 {
				t.Errorf("%s: %v", name, errs)
			}
			continue
		}
		if len(errs) != 1 || errs[0].Field != c.want {
			t.Errorf("%s: %v, want one at %s", name, errs, c.want)
		}
	}
}

func roleExists() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: v1alpha1.RoleLabel, Operator: metav1.LabelSelectorOpExists}}}
}
