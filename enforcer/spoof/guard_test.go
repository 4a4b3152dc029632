package spoof

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestChangesThatAreExpensiveAreGatheredForLonger(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: gatherFor, time.Millisecond: gatherFor, 20 * time.Millisecond: 180 * time.Millisecond, time.Minute: maxGather,
	} {
		if got := gatherTimeAfter(took); got != want {
			t.Errorf("after %v: %v, want %v", took, got, want)
		}
	}
}

func TestAFullNotificationBufferIsToldFromOtherFailures(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("Receive failed: " + unix.ENOBUFS.Error()), true}, // as the library says it
		{fmt.Errorf("receive: %w", unix.ENOBUFS), true},
		{errors.New("Receive failed: " + unix.EBADF.Error()), false},
	} {
		if got := errors.Is(asMissedChanges(c.err), errMissedChanges); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
