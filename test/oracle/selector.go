package oracle

import (
	"net"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// understood reports whether a selector means something.
func understood(s *metav1.LabelSelector) bool {
	_, err := metav1.LabelSelectorAsSelector(s)
	return err == nil
}

// mentions reports whether a selector asks for the key.
func mentions(s *metav1.LabelSelector, key string) bool {
	_, asked := s.MatchLabels[key]
	return asked || slices.ContainsFunc(s.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool { return e.Key == key })
}

// selects reports whether an understood selector selects the labels. "A null or empty selector
// matches everything"; "the requirements are ANDed".
func selects(s *metav1.LabelSelector, labels map[string]string) bool {
	for key, want := range s.MatchLabels {
		if value, has := labels[key]; !has || value != want {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, has := labels[e.Key]
		listed := slices.Contains(e.Values, value)
		switch e.Operator {
		case "In":
			if !has || !listed {
				return false
			}
		case "NotIn": // a key that is not there is in no list
			if has && listed {
				return false
			}
		case "Exists":
			if !has {
				return false
			}
		case "DoesNotExist":
			if has {
				return false
			}
		default:
			panic("an unintelligible selector was asked what it selects")
		}
	}
	return true
}

func tierRoleUnderstood(tr *v1alpha1.TierRole) bool {
	sound := len(validation.IsDNS1123Label(tr.Spec.Role)) == 0 && len(tr.Spec.Namespaces) > 0
	for _, ns := range tr.Spec.Namespaces {
		sound = sound && len(validation.IsDNS1123Label(ns)) == 0
	}
	s := tr.Spec.PodSelector
	return sound && (s == nil || understood(s) && !mentions(s, "tierwall.io/tier-role"))
}

// cidr reads a CIDR of the plain notations.
func cidr(s string) (netip.Prefix, bool) {
	if _, _, err := net.ParseCIDR(s); err != nil {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil && !p.Addr().Is4In6()
}
