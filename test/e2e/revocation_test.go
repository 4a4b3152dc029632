//go:build cluster

package e2e

import (
	"testing"
	"time"

	"github.com/tierwall/tierwall/test/shop"
)

// revocation holds connections that a policy lets come about, takes the policy
// away, and looks whether they live on: these should not, any other should.
func revocation(t *testing.T, f *fixture) {
	backend, frontend := f.pod(t, "prod/backend"), f.pod(t, "prod/frontend")
	f.callback(t, true)
	time.Sleep(time.Second)
	var cut, kept []*flow
	for i := range frontend.Targets() {
		cut = append(cut, f.startFlow(t, "to be cut", backend, "hold", frontend.Targets()[i], "-every", "5ms", "-timeout", "2s", "-for", "10s"))
		kept = append(kept, f.startFlow(t, "to be kept", frontend, "hold", backend.Targets()[i], "-every", "5ms", "-timeout", "2s", "-for", "10s"))
	}
	time.Sleep(3 * time.Second)
	taken := f.callback(t, false)
	for _, fl := range cut {
		last := fl.lastEcho(t)
		t.Logf("%s: the last echo came %v after the request's return", fl.name, last.Sub(taken.returned))
		if last.Before(taken.asked.Add(-time.Second)) || last.After(taken.returned.Add(2*time.Second)) {
			t.Errorf("%s: the last echo came %v after the policy was gone", fl.name, last.Sub(taken.returned))
		}
	}
	for _, fl := range kept {
		for _, a := range fl.wait(t) {
			if !a.Reached {
				t.Errorf("%s: broke: %+v", fl.name, a)
			}
		}
	}
}

// lastEcho is when the held connection was answered last.
func (fl *flow) lastEcho(t *testing.T) time.Time {
	t.Helper()
	_ = fl.cmd.Wait() // it fails when its connection does
	var last int64
	for a := range shop.Attempts(&fl.out) {
		if a.Reached {
			last = max(last, a.Sent)
		}
	}
	if last == 0 {
		t.Fatalf("%s: never answered", fl.name)
	}
	return time.Unix(0, last)
}
