package nftables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// toolTime is how long nft may run, elementTime what it may take beyond that for each element that it writes, and listTime
// how long it may read. All are well above what it takes.
const (
	toolTime    = 30 * time.Second
	listTime    = 5 * time.Minute
	elementTime = time.Millisecond
)

// tool is the kernel, by way of the program nft or without it.
type tool struct {
	knftables.Interface
	nfnetlink.Socket
}

// openTool finds nft and sees that it works and that the kernel has what rules need.
func openTool(ctx context.Context, log ruletext.DenyLog) (*tool, error) {
	k, err := knftables.New(knftables.InetFamily, tableName)
	if err != nil {
		return nil, fmt.Errorf("nftables cannot be used: %w", err)
	}
	t := &tool{Interface: k, Socket: nfnetlink.Socket{Table: tableName}}
	ctx, cancel := limitTime(ctx, toolTime)
	defer cancel()
	if err := k.Check(ctx, addProbe(k.NewTransaction(), log)); err != nil {
		return nil, fmt.Errorf("nft or the kernel lacks a required feature: %w", err)
	}
	return t, nil
}

// Available reports whether nftables can be used here, and if not, why. It changes nothing.
func Available(ctx context.Context) error {
	_, err := openTool(ctx, ruletext.DenyLog{})
	return err
}

// addProbe has one of everything that a ruleset may have.
func addProbe(tx *knftables.Transaction, log ruletext.DenyLog) *knftables.Transaction {
	p := &policy.Program{Classes: [2]map[policy.ClassID]*policy.Class{{}, {}}}
	r := newRenderer(p, names{}, transition.Slots{}, log)
	r.families = []family{ipv4, ipv6}
	r.renderFrame()
	for _, f := range r.families {
		for _, d := range policy.Directions {
			r.renderDispatch(f, d, nil)
		}
		for kind, s := range map[string]Set{"peers": setOf(f, policy.Addresses), "networks": setOf(f, policy.Networks),
			"ports": setOf(f, policy.AddressPorts), "ranges": {Type: f.addressType() + " . inet_proto . inet_service", Interval: true}} {
			name := fmt.Sprintf("%s%d", kind, f)
			r.out.Sets[name] = s
			key := fields{f.peerField(policy.Ingress)}
			if s.Type != key.setType() {
				key = append(key, portFields...)
			}
			r.addChain(name, "", newRule("", fieldsInSet{key, name, s.Interval}, verdict("return")))
		}
	}
	t := &transaction{}
	makePlan(newRuleset(), r.out).asOneTransaction().writeSwitch(t, garbage{})
	return t.writeAll(tx)
}

func limitTime(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("killed: nft did not end within %v", d))
}

// Run asks the kernel itself, where that can be and the transaction is not too long for it, and else has
// nft do so.
func (t *tool) Run(ctx context.Context, tx *transaction, known uint32) (generation uint32, alone bool, err error) {
	if tx.direct && ctx.Err() == nil {
		if b, ok := tx.encodeBatch(); ok {
			generation, alone, err := t.Commit(b, known)
			if !errors.Is(err, unix.EMSGSIZE) {
				return generation, alone, err
			}
		}
	}
	before, err := t.Generation()
	alone = err == nil && before == known
	if err := t.runTool(ctx, tx); err != nil {
		return 0, false, err
	}
	generation, err = t.Generation()
	return generation, alone && err == nil && generation-before <= 1, nil
}

// runTool is knftables' Run, within a time.
func (t *tool) runTool(ctx context.Context, tx *transaction) error {
	ctx, cancel := limitTime(ctx, toolTime+time.Duration(tx.countElements())*elementTime)
	defer cancel()
	err := t.Interface.Run(ctx, tx.writeAll(t.NewTransaction()))
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// List reads our table with one call of nft, and the rules from the kernel.
func (t *tool) List(ctx context.Context, want *Ruleset) (listing, error) {
	l, err := t.listTable(ctx, want)
	if err != nil || !l.there {
		return l, err
	}
	rules, err := t.Rules()
	for name, c := range l.chains {
		c.rules = rules[name]
		l.chains[name] = c
	}
	return l, err
}

func (t *tool) listTable(ctx context.Context, want *Ruleset) (listing, error) {
	ctx, cancel := limitTime(ctx, listTime)
	defer cancel()
	args := []string{"--json", "--numeric", "list", "table", string(knftables.InetFamily), tableName}
	if want == nil {
		args = append([]string{"--terse"}, args...)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return listing{}, fmt.Errorf("listing our table: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return listing{}, fmt.Errorf("listing our table: %w", err)
	}
	l, readErr := readListing(stdout, want)
	_, _ = io.Copy(io.Discard, stdout) // so that nft can end
	if err := cmd.Wait(); err != nil {
		if strings.Contains(stderr.String(), "No such file or directory") {
			return listing{}, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return listing{}, fmt.Errorf("listing our table: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return l, readErr
}
