package enforcer

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// dated is a world that says when its changes came.
type dated struct {
	*fakeCluster
	since time.Time
}

func (w *dated) Since() time.Time { return w.since }

// metricSum is the number of observations of a histogram, or the value of a gauge or of all of a counter, and their sum.
func metricSum(t *testing.T, r *prometheus.Registry, name string) (n uint64, total float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			n += m.GetHistogram().GetSampleCount()
			total += m.GetHistogram().GetSampleSum() + m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		return n, total
	}
	t.Fatalf("no metric %s", name)
	return 0, 0
}

func TestMetricsSayHowLongAChangeTookAndWhatIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &dated{fakeCluster: newFakeCluster()}
		close(w.synced)
		mended := 0
		e := runOn(t, w, w, false, func(e *Enforcer) { e.Mended = func() { mended++ } })
		r := prometheus.NewRegistry()
		RegisterMetrics(r, e)
		gauge := func(name string, want float64) {
			t.Helper()
			if _, got := metricSum(t, r, "tierwall_enforcer_"+name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		gauge("endpoints", 1)
		gauge("in_force", 1)
		before, took := metricSum(t, r, "tierwall_enforcer_event_to_enforced_seconds")

		// Refused for half a second, with another change in between: the oldest counts.
		w.since = time.Now()
		w.mu.Lock()
		w.failures = 3
		w.mu.Unlock()
		w.setSnapshot(withPods(1))
		time.Sleep(2 * retryMin)
		gauge("in_force", 0)
		gauge("endpoints", 1)
		w.since = time.Now()
		w.setSnapshot(withPods(2))
		time.Sleep(20 * retryMin)
		gauge("endpoints", 3)
		gauge("in_force", 1)
		after, tookNow := metricSum(t, r, "tierwall_enforcer_event_to_enforced_seconds")
		if lasted := tookNow - took; after != before+1 || lasted < (3*retryMin).Seconds() || lasted > (20*retryMin).Seconds() {
			t.Errorf("%d observations of %v s, want one of all retries", after-before, lasted)
		}

		// What happens elsewhere, and what is mended, came from no change.
		w.setSnapshot(withRemotePods(0))
		w.mu.Lock()
		w.damaged = true
		w.mu.Unlock()
		time.Sleep(repairEvery)
		synctest.Wait()
		if mended != 1 {
			t.Errorf("told of %d repairs", mended)
		}
	})
}

func TestEveryMetricIsOfTheEnforcer(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	RegisterMetrics(r, &Enforcer{})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "tierwall_enforcer_") || f.GetHelp() == "" {
			t.Errorf("%s: %q", f.GetName(), f.GetHelp())
		}
	}
}
