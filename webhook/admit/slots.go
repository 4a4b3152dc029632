package admit

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// largeRequest is the total size of object and old object, in bytes, above which a request is in largeLane.
const largeRequest = 64 << 10

// lane identifies a queue with slots of its own. Requests of one lane never wait for another lane.
type lane int

const (
	// clusterLane is for objects without a namespace, which administrators write, and namespaces.
	clusterLane lane = iota
	smallLane
	largeLane
	lanes
)

// Slots bounds concurrent reviews. Each lane serves its tenants round-robin, and bounds the slots
// of one tenant. A tenant is a namespace, or a user for objects without one.
type Slots struct {
	mu    sync.Mutex
	lanes [lanes]laneQueue
}

// NewSlots returns n slots for small requests, and one each for objects of the cluster and for large requests.
func NewSlots(n int) *Slots {
	s := &Slots{}
	for l := range s.lanes {
		s.lanes[l] = laneQueue{free: 1, share: 1, waiting: map[string][]chan struct{}{}, running: map[string]int{}}
	}
	s.lanes[smallLane].free = n
	s.lanes[smallLane].share = max(1, n-1)
	return s
}

// laneQueue holds the waiting requests of one lane, by tenant.
type laneQueue struct {
	free    int
	share   int // maximum slots of one tenant
	waiting map[string][]chan struct{}
	order   []string // tenants with waiting requests; the first is served next
	running map[string]int
}

// acquire waits for a slot. The returned function releases it.
func (s *Slots) acquire(ctx context.Context, l lane, tenant string) (release func(), err error) {
	turn := s.enqueue(l, tenant)
	select {
	case <-turn:
	default:
		select {
		case <-turn:
		case <-ctx.Done():
			s.cancelWait(l, tenant, turn)
			return nil, fmt.Errorf("too many changes are reviewed at once; try again in a moment: %w", context.Cause(ctx))
		}
	}
	return sync.OnceFunc(func() { s.releaseSlot(l, tenant) }), nil
}

// enqueue returns a channel that is closed when the caller has a slot.
func (s *Slots) enqueue(l lane, tenant string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, turn := &s.lanes[l], make(chan struct{})
	if len(q.waiting[tenant]) == 0 {
		q.order = append(q.order, tenant)
	}
	q.waiting[tenant] = append(q.waiting[tenant], turn)
	q.grantSlots()
	return turn
}

// cancelWait removes a request from the queue. If the request got a slot meanwhile, the slot is released.
func (s *Slots) cancelWait(l lane, tenant string, turn chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.lanes[l]
	i := slices.Index(q.waiting[tenant], turn)
	if i < 0 {
		q.returnSlot(tenant)
		return
	}
	q.waiting[tenant] = slices.Delete(q.waiting[tenant], i, i+1)
	q.removeIdle(tenant)
}

func (s *Slots) releaseSlot(l lane, tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes[l].returnSlot(tenant)
}

func (q *laneQueue) returnSlot(tenant string) {
	q.free++
	if q.running[tenant]--; q.running[tenant] == 0 {
		delete(q.running, tenant)
	}
	q.grantSlots()
}

// grantSlots gives the free slots to the tenants, round-robin.
func (q *laneQueue) grantSlots() {
	for q.free > 0 {
		i := slices.IndexFunc(q.order, func(tenant string) bool { return q.running[tenant] < q.share })
		if i < 0 {
			return
		}
		tenant := q.order[i]
		q.free--
		q.running[tenant]++
		close(q.waiting[tenant][0])
		q.waiting[tenant] = q.waiting[tenant][1:]
		q.order = append(slices.Delete(q.order, i, i+1), tenant)
		q.removeIdle(tenant)
	}
}

// removeIdle removes a tenant without waiting requests.
func (q *laneQueue) removeIdle(tenant string) {
	if len(q.waiting[tenant]) > 0 {
		return
	}
	delete(q.waiting, tenant)
	q.order = slices.DeleteFunc(q.order, func(t string) bool { return t == tenant })
}

func requestLane(req admission.Request) lane {
	switch {
	case len(req.Object.Raw)+len(req.OldObject.Raw) > largeRequest:
		return largeLane
	case req.Namespace == "" || req.Kind.Kind == namespaces.kind:
		return clusterLane
	default:
		return smallLane
	}
}

func requestTenant(req admission.Request) string {
	if req.Namespace != "" && req.Kind.Kind != namespaces.kind {
		return "namespace " + req.Namespace
	}
	return "user " + req.UserInfo.Username
}
