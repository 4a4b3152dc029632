package nfnetlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// answerTime is how long the kernel may take for a transaction.
	answerTime = 30 * time.Second
	// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
	membarrierGlobal = 1
	// gracePeriod is longer than one of the kernel mostly is.
	gracePeriod = 50 * time.Millisecond
	// maxAnswersSize is room for the errors of a batch that is refused: the kernel counts 1 KiB for each.
	maxAnswersSize = 8 << 20
	// attempts is how often a transaction is tried while others write.
	attempts = 20
)

// Refusal is the error of a transaction that the kernel did not carry out, or of which it is not known.
type Refusal struct {
	// About is the object that the kernel refused, such as "chain x".
	About string
	Err   error
	// Others are what else the kernel refused of it.
	Others []*Refusal
}

// Error is that of package errors.
func (r *Refusal) Error() string {
	return "the kernel refuses a transaction: " + r.About + ": " + r.Err.Error()
}

// Unwrap is that of package errors.
func (r *Refusal) Unwrap() error { return r.Err }

// Socket is a connection to nf_tables, opened at its first use. It stays open: when one is closed, the kernel waits until
// all that was deleted is freed.
type Socket struct {
	// Table is the one whose rules are read.
	Table string
	// Netlink is the open connection, or nil.
	Netlink *nl.NetlinkSocket
}

// ensureOpen connects to the tables of the network namespace that the calling thread is in.
func (s *Socket) ensureOpen() error {
	if s.Netlink != nil {
		return nil
	}
	n, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("opening netfilter's netlink: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(answerTime))
	if err := n.SetReceiveTimeout(&timeout); err != nil {
		n.Close()
		return fmt.Errorf("limiting the time for netlink: %w", err)
	}
	// Where it may not be larger, the kernel says of a batch that it is too long.
	_ = unix.SetsockoptInt(n.GetFd(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*MaxBatch)
	_ = unix.SetsockoptInt(n.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, maxAnswersSize)
	_ = unix.SetsockoptInt(n.GetFd(), unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	s.Netlink = n
	return nil
}

// Settle waits for a grace period of the kernel (membarrier(2)), within which every packet that is being
// judged is done with. Where the kernel does not offer that, it waits for longer than one.
func (*Socket) Settle(ctx context.Context) error {
	if _, _, failed := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); failed == 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(gracePeriod):
		return nil
	}
}

// closeConnection closes the connection, of which answers may be outstanding.
func (s *Socket) closeConnection() {
	if s.Netlink != nil {
		s.Netlink.Close()
		s.Netlink = nil
	}
}

// sendMessage sends to the kernel, which has dealt with it when send returns. EMSGSIZE says that it is too long.
func (s *Socket) sendMessage(message []byte) error {
	err := unix.Sendto(s.Netlink.GetFd(), message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err != nil && !errors.Is(err, unix.EMSGSIZE) {
		s.closeConnection()
	}
	return err
}

// Generation returns the generation of the kernel's tables.
func (s *Socket) Generation() (uint32, error) {
	if err := s.ensureOpen(); err != nil {
		return 0, err
	}
	const sequence = 1
	if err := s.askGeneration(sequence); err != nil {
		return 0, err
	}
	out, _, err := s.readAnswers(sequence, 0)
	return out, err
}

// Commit carries out a batch, and returns the generation after it. The kernel does so only if its tables
// are of the generation that is known; alone reports that they were, and that no other process wrote since.
func (s *Socket) Commit(b *Batch, known uint32) (generation uint32, alone bool, err error) {
	if err := s.ensureOpen(); err != nil {
		return 0, false, &Refusal{About: "not asked", Err: err}
	}
	alone = true
	for range attempts {
		generation, err = s.CommitAt(b, known)
		if !errors.Is(err, unix.ERESTART) {
			return generation, alone && generation-known <= 1, err
		}
		alone, known = false, generation
	}
	return 0, false, err
}

// CommitAt carries out a batch if the kernel's tables are of a generation, and returns the one that they have
// then. ERESTART says that they were of another.
func (s *Socket) CommitAt(b *Batch, generation uint32) (uint32, error) {
	last := uint32(len(b.objects))
	if err := s.sendMessage(b.EncodeAt(generation)); err != nil {
		return 0, &Refusal{About: "sending it", Err: err}
	}
	if err := s.askGeneration(last + 1); err != nil {
		return 0, &Refusal{About: "asking whether it is carried out", Err: err}
	}
	now, done, err := s.readAnswers(last+1, last)
	var answers answerErrors
	switch {
	case errors.As(err, &answers):
		return now, b.toRefusal(answers)
	case err != nil:
		return 0, &Refusal{About: "its answer", Err: err}
	case !done:
		return 0, &Refusal{About: "its answer", Err: errors.New("there is none")}
	}
	return now, nil
}

// toRefusal is what the kernel refused of a batch.
func (b *Batch) toRefusal(answers answerErrors) *Refusal {
	var out []*Refusal
	for _, a := range answers {
		r := &Refusal{About: "all of it", Err: a.code}
		if n := int(a.sequence); n > 0 && n <= len(b.objects) {
			r.About = b.objects[n-1]
		}
		out = append(out, r)
	}
	out[0].Others = out[1:]
	return out[0]
}

// maxAnswers is how many errors of a batch are kept.
const maxAnswers = 1000

// answerErrors are the errors that the kernel answers to a batch; at least one.
type answerErrors []*answerError

func (a answerErrors) Error() string { return a[0].Error() }

// Unwrap is that of package errors.
func (a answerErrors) Unwrap() error { return a[0] }

// answerError is an error that the kernel answers to the message of a sequence number.
type answerError struct {
	sequence uint32
	code     unix.Errno
}

func (a *answerError) Error() string { return a.code.Error() }

// answerOf is the error that a message tells; nil is that of one which says that something was done.
func answerOf(m syscall.NetlinkMessage) error {
	if a := errorIn(m); a != nil {
		return a
	}
	return nil
}

func errorIn(m syscall.NetlinkMessage) *answerError {
	if len(m.Data) < 4 {
		return &answerError{m.Header.Seq, unix.EBADMSG}
	}
	if code := unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data))); code != 0 {
		return &answerError{m.Header.Seq, code}
	}
	return nil
}

// askGeneration asks for the generation of tables, which the kernel answers after everything that was sent before.
func (s *Socket) askGeneration(sequence uint32) error {
	request := appendHeader(nil, generationRequest, 0, sequence)
	request = append(request, unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	return s.sendMessage(request)
}

// readAnswers reads what the kernel answers, up to the generation. It reports whether the message of a sequence
// number was carried out, and gives the errors.
func (s *Socket) readAnswers(asked, last uint32) (generation uint32, done bool, err error) {
	var failed answerErrors
	for {
		messages, from, receiveErr := s.Netlink.Receive()
		if receiveErr != nil {
			s.closeConnection()
			return 0, false, fmt.Errorf("reading the generation of tables: %w", receiveErr)
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_ERROR:
				answer := errorIn(m)
				done = done || answer == nil && m.Header.Seq == last
				if answer != nil && len(failed) < maxAnswers {
					failed = append(failed, answer)
				}
				if m.Header.Seq == asked {
					return 0, false, failed
				}
			case m.Header.Seq == asked:
				generation, err := parseGeneration(m)
				if len(failed) > 0 {
					err = failed
				}
				return generation, done, err
			}
		}
	}
}

func parseGeneration(m syscall.NetlinkMessage) (uint32, error) {
	if m.Header.Type != generationIs || len(m.Data) < nl.SizeofNfgenmsg {
		return 0, errors.New("reading the generation of tables: not an answer")
	}
	attributes, err := nl.ParseRouteAttr(m.Data[nl.SizeofNfgenmsg:])
	if err != nil {
		return 0, fmt.Errorf("reading the generation of tables: %w", err)
	}
	for _, a := range attributes {
		if a.Attr.Type&attributeType == unix.NFTA_GEN_ID && len(a.Value) == 4 {
			return binary.BigEndian.Uint32(a.Value), nil
		}
	}
	return 0, errors.New("reading the generation of tables: the answer has none")
}
