package compile

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy"
)

// shelved is a NetworkPolicy in the engine. It is packed, in a tenth of the memory, while nobody is
// here that it could select: a node has pods of few of a large cluster's namespaces.
type shelved struct {
	packed  []byte // protobuf
	read    *networkPolicy
	written int // its size, in entries
}

// leftAtMost is in how many namespaces policies stay read that nobody is in any more. Most
// pods that go make room for another of their kind.
var leftAtMost = 64

// shelve packs a policy, and says what is wrong with it.
func shelve(np *networkingv1.NetworkPolicy) (*shelved, []policy.Problem) {
	bare := networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: np.Namespace, Name: np.Name}, Spec: np.Spec}
	if NetworkPolicySize(np) > MaxPolicySize {
		bare = *closedNetworkPolicy(np)
	}
	packed, err := bare.Marshal()
	if err != nil {
		panic(fmt.Sprintf("packing NetworkPolicy %s/%s: %v", np.Namespace, np.Name, err)) // into memory: it cannot fail
	}
	return &shelved{packed: packed, written: NetworkPolicySize(&bare)}, ValidateNetworkPolicy(np)
}

// take reads the policy, if it is not read yet.
func (c *commit) take(s *shelved) {
	if s.read != nil {
		return
	}
	var np networkingv1.NetworkPolicy
	if err := np.Unmarshal(s.packed); err != nil {
		panic(fmt.Sprintf("unpacking a NetworkPolicy: %v", err)) // it was packed here
	}
	s.read, _ = parseNetworkPolicy(&np)
	c.policies++
	s.read.number = c.policies
	c.bySubject.add(s.read.selection(), s.read)
}

// putBack forgets what the policy says.
func (c *commit) putBack(s *shelved) {
	if s.read != nil {
		c.bySubject.remove(s.read)
		s.read = nil
	}
}

// selection is the pods that the policy is for.
func (p *networkPolicy) selection() *podSelection {
	return &podSelection{namespaces: nameIs(p.id.Namespace), pods: p.subject}
}

// settled says that somebody of the profile is here from now on, and so in its domain.
func (c *commit) settled(p *profile) {
	if _, already := c.inhabited[p]; already {
		return
	}
	c.inhabited[p] = struct{}{}
	if p.domain.inhabited++; p.domain.inhabited == 1 {
		c.written[p.domain] = true
	}
}

// deserted says that nobody of the profile is here any more. The policies of the domain stay read for a
// while after nobody is.
func (c *commit) deserted(p *profile) {
	if _, was := c.inhabited[p]; !was {
		return
	}
	delete(c.inhabited, p)
	if p.domain.inhabited--; p.domain.inhabited > 0 {
		return
	}
	c.forgetBudgets(p.domain)
	if c.left = append(c.left, p.domain); len(c.left) <= leftAtMost {
		return
	}
	longest := c.left[0]
	if c.left = c.left[1:]; longest.inhabited == 0 {
		for _, s := range longest.policies {
			c.putBack(s)
		}
	}
}
