//go:build netns

package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/policy"
)

// comeOrGo is a change by which addresses come into a set of the shop, or go.
func comeOrGo(come bool, addrs ...string) *policy.Change {
	var list []policy.Element
	for _, a := range addrs {
		list = append(list, policy.AddressElement(netip.MustParseAddr(a)))
	}
	if come {
		return &policy.Change{Members: []policy.SetChange{{ID: "front", Added: list}}}
	}
	return &policy.Change{Members: []policy.SetChange{{ID: "front", Removed: list}}}
}

func TestAChangeStartsNoProgram(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	before := n.contents()
	t.Run("without nft", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		for _, come := range []bool{true, false} {
			n.Update(b, comeOrGo(come, "10.3.0.1"))
			if now, err := b.kernel.Generation(); err != nil || now != b.generation || !b.alone {
				t.Errorf("the kernel's generation is %d (%v), and taken for %d; alone: %v", now, err, b.generation, b.alone)
			}
		}
	})
	if after := n.contents(); after != before {
		t.Errorf("a member that came and went left\n%s\nof\n%s", after, before)
	}
}

// What the kernel refuses at its end changes nothing of what comes before.
func TestATransactionIsCarriedOutAsAWholeOrNotAtAll(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	before := n.contents()
	front := Set{Type: "ipv4_addr"}
	for name, last := range map[string]command{
		"a chain that is not there":     chainCommand{remove, "nowhere", ""},
		"a set that is in use":          setCommand{remove, "set4-front", front},
		"an element that is not there":  elementsCommand{remove, "set4-front", front, []string{"10.9.9.9"}, nil, false},
		"a rule that leads nowhere":     ruleCommand{"stray", newRule("", goTo("nowhere"))},
		"a rule that leads in a circle": ruleCommand{"in4-data", newRule("", goTo("in4-data"))},
	} {
		t.Run(name, func(t *testing.T) {
			tx := &transaction{direct: true}
			tx.addCommand(chainCommand{add, "in4-more", ""})
			tx.addCommand(elementsCommand{add, "set4-front", front, []string{"10.3.0.1"}, nil, false})
			tx.addCommand(last)
			n.Must(func() error {
				_, _, err := b.kernel.Run(t.Context(), tx, b.generation)
				var r *nfnetlink.Refusal
				if !errors.As(err, &r) || !strings.Contains(err.Error(), r.About) {
					t.Errorf("not refused: %v", err)
				}
				return nil
			})
			if after := n.contents(); after != before {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// Whoever else writes is noticed, whether before or between our transactions, and keeps none from being carried out.
func TestOthersThatWriteAreNoticed(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	n.Update(b, comeOrGo(true, "10.3.0.1"))
	if !b.alone {
		t.Error("nobody else wrote")
	}
	n.nft("add element inet others tierwall { 10.9.9.9 }")
	n.Update(b, comeOrGo(true, "10.3.0.2"))
	if b.alone {
		t.Error("it was not noticed that others wrote")
	}
	if got := n.contents(); !strings.Contains(got, "10.3.0.1") || !strings.Contains(got, "10.3.0.2") {
		t.Errorf("not carried out:\n%s", got)
	}
	if n.Repair(b) {
		t.Error("what others do to their own is taken for damage")
	}
	n.Must(func() error {
		if !b.isUnchanged() {
			t.Error("nobody wrote since it was looked at")
		}
		return nil
	})
}

// While others write without a pause, every change is made, and the kernel is as it should be.
func TestChangesAmongThoseOfOthers(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	ctx, stop := context.WithCancel(t.Context())
	others := make(chan int, 1)
	go func() {
		wrote := 0
		for ctx.Err() == nil {
			if _, err := n.Try(t.Context(), "", "nft", fmt.Sprintf("add element inet others tierwall { 10.9.%d.%d }", wrote/250%250, wrote%250)); err == nil {
				wrote++
			}
		}
		others <- wrote
	}()
	for i := range 100 {
		n.Update(b, comeOrGo(true, fmt.Sprintf("10.3.0.%d", i)))
		if i%2 == 0 {
			n.Update(b, comeOrGo(false, fmt.Sprintf("10.3.0.%d", i)))
		}
		if i%20 == 0 && n.Repair(b) {
			t.Error("what others write is taken for damage")
		}
	}
	stop()
	if wrote := <-others; wrote == 0 {
		t.Error("nobody else wrote")
	}
	if n.Repair(b) {
		t.Error("the kernel is not as written")
	}
	fresh := newNode(t)
	fresh.Apply(fresh.Open(), b.program)
	if got, want := n.contents(b), fresh.contents(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestATransactionIsNotCarriedOutOnTablesOfAnotherGeneration(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	n.Must(func() error {
		tx := &transaction{}
		tx.addCommand(chainCommand{add, "in4-more", ""})
		batch, _ := tx.encodeBatch()
		now, err := socketOf(b).CommitAt(batch, b.generation+1)
		if !errors.Is(err, unix.ERESTART) || now != b.generation {
			t.Errorf("generation %d, %v", now, err)
		}
		return nil
	})
	if strings.Contains(n.contents(), "in4-more") {
		t.Error("it was carried out")
	}
}

// socketOf is a backend's connection to the kernel.
func socketOf(b *Backend) *nfnetlink.Socket { return &b.kernel.(*tool).Socket }

// However the connection fails, the change is made.
func TestAChangeIsMadeWhateverBecomesOfTheConnection(t *testing.T) {
	shrink := func(s *nfnetlink.Socket, buffer int) {
		if err := unix.SetsockoptInt(s.Netlink.GetFd(), unix.SOL_SOCKET, buffer, 1); err != nil { // the least there is
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(n node, s *nfnetlink.Socket){
		"it is closed":               func(_ node, s *nfnetlink.Socket) { s.Netlink.Close() },
		"it takes few bytes":         func(_ node, s *nfnetlink.Socket) { shrink(s, unix.SO_SNDBUF) },
		"it has no room for answers": func(n node, s *nfnetlink.Socket) { n.nft("delete table inet tierwall"); shrink(s, unix.SO_RCVBUF) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			b := n.Open()
			n.Apply(b, sample.Shop())
			b.log = slog.New(slog.DiscardHandler) // which may say so
			damage(n, socketOf(b))
			var addrs []string
			for i := range 4000 {
				addrs = append(addrs, fmt.Sprintf("10.3.%d.%d", i/250, i%250))
			}
			n.Update(b, comeOrGo(true, addrs...))
			n.Update(b, comeOrGo(false, addrs[1:]...))
			n.Update(b, comeOrGo(true, addrs[2:]...))
			fresh := newNode(t)
			fresh.Apply(fresh.Open(), sample.Shop().With(comeOrGo(true, slices.Delete(addrs, 1, 2)...)))
			if got, want := n.contents(b), fresh.contents(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
