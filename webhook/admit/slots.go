package admit

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// largeRequest is the size of object and old object, in bytes, from which on a request waits in a lane of its own.
const largeRequest = 64 << 10

// lane is a queue with slots of its own. No request waits for one of another lane.
type lane int

const (
	// clusterLane is for objects without a namespace, which administrators write.
	clusterLane lane = iota
	smallLane
	largeLane
	lanes
)

// Slots bounds how many reviews go on at once. In each lane the tenants take turns, a
// tenant being a namespace, or a user for objects without one; while others wait, no
// tenant has more than its share.
type Slots struct {
	mu    sync.Mutex
	lanes [lanes]laneQueue
}

// NewSlots returns slots for n reviews of small requests at once, and one each for objects of the cluster and for large ones.
func NewSlots(n int) *Slots {
	s := &Slots{}
	for l := range s.lanes {
		s.lanes[l] = laneQueue{free: 1, share: 1, waiting: map[string][]chan struct{}{}, running: map[string]int{}}
	}
	s.lanes[smallLane].free = n
	s.lanes[smallLane].share = max(1, n-1)
	return s
}

// laneQueue has the requests of one lane that wait, by tenant.
type laneQueue struct {
	free    int
	share   int // how many slots a tenant may have
	waiting map[string][]chan struct{}
	order   []string // the tenants that wait; the first is next
	running map[string]int
}

// acquire waits for a slot. The function that it returns gives the slot back.
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

// enqueue returns a channel that is closed once the caller has a slot.
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

// cancelWait takes a request that gave up out of the queue, and gives back the slot if it had got one meanwhile.
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

// grantSlots gives the free slots to the tenants in turn.
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
		q.order = append(slices.Delete(q.order, i, i+1), tenant) // to the end
		q.removeIdle(tenant)
	}
}

// removeIdle forgets a tenant of whom no request waits.
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
