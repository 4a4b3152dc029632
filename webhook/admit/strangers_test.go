package admit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/peer"
)

// fromAddress returns a context of a request from an address, without a client certificate.
func fromAddress(t *testing.T, address string) context.Context {
	return peer.WithIdentity(t.Context(), &http.Request{RemoteAddr: address + ":1"})
}

const apiServerAddress, strangerAddress = "192.0.2.1", "192.0.2.7"

// allowAll is a Judge that denies nothing.
var allowAll = judgeFunc(func(context.Context, rego.Input) (rego.Result, error) { return rego.Result{}, nil })

func TestStrangerCannotUseUpRoomOfAPIServer(t *testing.T) {
	h, _ := newGuardedHandler(t)
	h.Guardrails = allowAll
	stranger, apiServer := fromAddress(t, strangerAddress), fromAddress(t, apiServerAddress)
	for i := range maxInflight {
		assertResponse(t, h.Handle(stranger, creationRequest(fmt.Sprint(i))), true, "")
	}
	assertResponse(t, h.Handle(stranger, creationRequest("one too many")), false, "too many changes of this namespace are in flight")
	assertResponse(t, h.Handle(apiServer, creationRequest("real")), true, "")
}

func TestSenderWithoutCertificateIsBoundedInAllNamespaces(t *testing.T) {
	var f inflightChanges
	w := newShopCluster()
	track := func(sender peer.Identity, namespace string) error {
		p := isolatingPolicy("x")
		p.Namespace = namespace
		_, _, err := f.track(sender, networkPolicies.newChange(nil, p), w)
		return err
	}
	stranger := peer.Identity{Network: peer.NetworkOf(strangerAddress + ":1")}
	f.changes = make([]*inflightChange, 0, maxInflightOfPeer)
	for i := range maxInflightOfPeer {
		p := isolatingPolicy("x")
		p.Namespace = fmt.Sprint("n", i)
		c := networkPolicies.newChange(nil, p)
		f.changes = append(f.changes, &inflightChange{change: c, sender: stranger, until: time.Now().Add(time.Hour), isShown: c.shownAfter(w.Snapshot())})
	}
	if err := track(stranger, "another"); !errors.Is(err, errTooManyOfPeer) {
		t.Errorf("stranger beyond its bound: error %v", err)
	}
	if err := track(peer.Identity{Network: peer.NetworkOf(apiServerAddress + ":1")}, "another"); err != nil {
		t.Errorf("another address: %v", err)
	}
	for _, c := range f.changes {
		c.sender = peer.Identity{Authenticated: true}
	}
	if err := track(peer.Identity{Authenticated: true}, "another"); err != nil {
		t.Errorf("authenticated sender: %v", err)
	}
}

// The API server changes policy a so that it selects nothing, which leaves b alone. Policies of a stranger that would
// isolate as well do not hide the state in which only the API server's change happens.
func TestChangesOfStrangerDoNotHideThoseOfAPIServer(t *testing.T) {
	for name, sender := range map[string]string{"IPv4": strangerAddress, "IPv6": "[2001:db8::7]"} {
		t.Run(name, func(t *testing.T) {
			h, _ := newGuardedHandler(t)
			stranger, apiServer := fromAddress(t, sender), fromAddress(t, apiServerAddress)
			create := func(from int) {
				for i := range maxInflight / 2 {
					assertResponse(t, h.Handle(stranger, creationRequest(fmt.Sprint("stranger-", from+i))), true, "")
				}
			}
			create(0)
			assertResponse(t, h.Handle(apiServer, selectNothing("a")), true, "")
			create(maxInflight / 2)
			assertResponse(t, h.Handle(apiServer, deletionRequest("b")), false, "takes default deny away")
		})
	}
}

func TestStrangerDoesNotReplaceChangesOfAPIServer(t *testing.T) {
	h, _ := newGuardedHandler(t)
	apiServer := fromAddress(t, apiServerAddress)
	assertResponse(t, h.Handle(apiServer, deletionRequest("a")), true, "")
	assertResponse(t, h.Handle(fromAddress(t, strangerAddress), deletionRequest("a")), true, "")
	sender := peer.IdentityFrom(apiServer)
	if n := len(h.inflight.changes); n != 2 || h.inflight.changes[0].sender != sender {
		t.Errorf("%d changes are tracked, want the API server's and the stranger's", n)
	}
	assertResponse(t, h.Handle(apiServer, deletionRequest("b")), false, "takes default deny away")
}

// selectNothing returns the UPDATE of an isolating policy to one that selects no pod.
func selectNothing(name string) admission.Request {
	now := isolatingPolicy(name)
	now.Spec.PodSelector = metav1.LabelSelector{MatchLabels: labels{"app": "none"}}
	req := newRequest("UPDATE", "NetworkPolicy", "shop", isolatingPolicy(name), now)
	req.Name = name
	return req
}
