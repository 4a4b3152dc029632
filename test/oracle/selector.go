package oracle

import (
	"net"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// understood says whether a selector means something and does not mention the forbidden key.
func understood(s *metav1.LabelSelector, forbidden string) bool {
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		return false
	}
	for k := range s.MatchLabels {
		if k == forbidden {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		if e.Key == forbidden {
			return false
		}
	}
	return true
}

// selects says whether an understood selector selects the labels.
func selects(s *metav1.LabelSelector, l labels.Set) bool {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic("an unintelligible selector was asked what it selects")
	}
	return parsed.Matches(l)
}

// cidr reads a CIDR of the plain notations.
func cidr(s string) (netip.Prefix, bool) {
	if _, _, err := net.ParseCIDR(s); err != nil {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil && !p.Addr().Is4In6()
}
