package admit

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// enqueueRequest asks for a slot for a small request in the background, and adds the tenant to the list when it has it.
func enqueueRequest(t *testing.T, s *Slots, tenant string, served *[]string, releases chan func()) {
	t.Helper()
	go func() {
		release, err := s.acquire(t.Context(), smallLane, tenant)
		if err != nil {
			t.Error(err)
			return
		}
		*served = append(*served, tenant)
		releases <- release
	}()
	synctest.Wait()
}

func TestTenantsAreServedRoundRobin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, releases := NewSlots(1), make(chan func(), 100)
		var served []string
		for range 5 {
			enqueueRequest(t, s, "flood", &served, releases)
		}
		for _, tenant := range []string{"one", "two", "one"} {
			enqueueRequest(t, s, tenant, &served, releases)
		}
		for range 8 {
			synctest.Wait()
			(<-releases)()
		}
		synctest.Wait()
		if want := []string{"flood", "flood", "one", "two", "flood", "one", "flood", "flood"}; !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
	})
}

func TestTenantSlotsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, releases := NewSlots(3), make(chan func(), 100)
		var served []string
		for range 10 {
			enqueueRequest(t, s, "flood", &served, releases)
		}
		enqueueRequest(t, s, "other", &served, releases)
		if want := []string{"flood", "flood", "other"}; !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
		for range 11 {
			(<-releases)()
		}
	})
}

func TestLanesAreIndependent(t *testing.T) {
	s := NewSlots(1)
	for _, l := range []lane{largeLane, smallLane, clusterLane} {
		if _, err := s.acquire(t.Context(), l, "a"); err != nil {
			t.Errorf("lane %d: %v", l, err)
		}
	}
}

func TestRequestLane(t *testing.T) {
	big := networkPolicy()
	big.Annotations = labels{"x": strings.Repeat("x", largeRequest)}
	for _, c := range []struct {
		name   string
		req    admission.Request
		lane   lane
		tenant string
	}{
		{"a policy", newRequest("CREATE", "NetworkPolicy", "shop", nil, networkPolicy()), smallLane, "namespace shop"},
		{"a large policy", newRequest("CREATE", "NetworkPolicy", "shop", nil, big), largeLane, "namespace shop"},
		{"what was large", newRequest("UPDATE", "NetworkPolicy", "shop", big, networkPolicy()), largeLane, "namespace shop"},
		{"a ClusterNetworkPolicy", newRequest("CREATE", "ClusterNetworkPolicy", "", nil, networkPolicy()), clusterLane, "user anna"},
		{"a namespace's labels", newRequest("UPDATE", "Namespace", "shop", networkPolicy(), networkPolicy()), clusterLane, "user anna"},
	} {
		if got, tenant := requestLane(c.req), requestTenant(c.req); got != c.lane || tenant != c.tenant {
			t.Errorf("%s: lane %d of %s, want %d of %s", c.name, got, tenant, c.lane, c.tenant)
		}
	}
}

// Whatever comes and gives up, all slots are free in the end, and nothing is remembered of the tenants.
func TestSlotsAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ended := NewSlots(2), make(chan bool, 1000)
		for i := range 300 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer func() { ended <- true }()
				if release, err := s.acquire(ctx, lane(i)%lanes, fmt.Sprint(i%7)); err == nil {
					if i%3 > 0 {
						runtime.Gosched()
					}
					release()
					release() // twice is once
				}
			}()
			if i%2 == 0 {
				cancel()
			} else {
				defer cancel()
			}
		}
		for range 300 {
			<-ended
		}
		for l, q := range s.lanes {
			if want := NewSlots(2).lanes[l].free; q.free != want || len(q.waiting)+len(q.order)+len(q.running) > 0 {
				t.Errorf("lane %d: %d free, want %d; %d waiting, %d in order, %d running", l, q.free, want, len(q.waiting), len(q.order), len(q.running))
			}
		}
	})
}
