package check

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
	"github.com/tierwall/tierwall/rego"
)

// findProblems finds what of each object cannot be understood. Such policies are refused
// before guardrails are asked about them.
func (r *run) findProblems(ctx context.Context, objects []*manifest.Object) {
	tierRoles := roles.New(r.Before.With(r.applied).Snapshot(r.Defaults).TierRoles)
	for _, o := range objects {
		before := len(r.findings)
		switch v := o.Value.(type) {
		case *networkingv1.NetworkPolicy:
			r.notUnderstood(o, compile.ValidateNetworkPolicy(v))
		case *policyv1alpha2.ClusterNetworkPolicy:
			r.notUnderstood(o, compile.ValidateClusterNetworkPolicy(v))
		case *v1alpha1.TierRole:
			r.addInvalid(o, roles.Validate(v))
		case *v1alpha1.Guardrail:
			r.addInvalid(o, rego.Validate(ctx, v, nil))
		case *corev1.Pod:
			r.checkRoleLabel(o, "", v.Labels, state.Account(&v.Spec), tierRoles)
		default:
			if t := state.Template(v); t != nil {
				r.checkRoleLabel(o, state.TemplateField(v), t.Labels, state.Account(&t.Spec), tierRoles)
			}
		}
		if manifest.IsPolicy(o.ID()) && len(r.findings) > before {
			delete(r.applied, state.KeyOf(o.Kind, o.Value))
		}
	}
	r.policies = filter(r.policies, func(o *manifest.Object) bool { return r.applied[state.KeyOf(o.Kind, o.Value)] != nil })
}

func (r *run) notUnderstood(o *manifest.Object, problems []policy.Problem) {
	for _, p := range problems {
		r.findings = append(r.findings, Finding{Level: Deny, Rule: NotUnderstood, Title: "Every field is understood", Severity: "high",
			File: o.File, Line: o.Line(p.ID.Field), Object: o.ID(), Field: p.ID.Field, Message: p.Message})
	}
}

func (r *run) addInvalid(o *manifest.Object, errs field.ErrorList) {
	for _, e := range errs {
		at := jsonPointer(e.Field)
		r.findings = append(r.findings, Finding{Level: Deny, Rule: NotUnderstood, Title: "Every field is understood", Severity: "high",
			File: o.File, Line: o.Line(at), Object: o.ID(), Field: at, Message: e.ErrorBody()})
	}
}

// jsonPointer is a path such as spec.namespaces[0] as a JSON pointer.
func jsonPointer(path string) string {
	return "/" + strings.NewReplacer("[", "/", "]", "", ".", "/").Replace(path)
}

// checkRoleLabel finds a role label that does not show the role, which follows from TierRoles alone.
// Admission replaces that of a pod, and refuses the pods of a workload with it.
func (r *run) checkRoleLabel(o *manifest.Object, within string, labels map[string]string, account string, tierRoles *roles.Roles) {
	shown, has := labels[v1alpha1.RoleLabel]
	role := tierRoles.Of(o.Namespace, account, labels).Role
	if !has || shown == role {
		return
	}
	is := "no role"
	if role != "" {
		is = "role " + role
	}
	f := Finding{Level: Warn, Rule: RoleLabel, Title: "Role labels show the role", Severity: "medium", File: o.File, Object: o.ID(),
		Field: within + "/metadata/labels/tierwall.io~1tier-role"}
	f.Line = o.Line(f.Field)
	f.Message = fmt.Sprintf("the label says %s, but the role is computed: the pod has %s, and gets the label that says so", shown, is)
	if within != "" {
		f.Level = Deny
		f.Message = fmt.Sprintf("the label says %s, but the role is computed: the pods have %s, and are refused; leave the role label out of workload templates", shown, is)
	}
	r.findings = append(r.findings, f)
}
