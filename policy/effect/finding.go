package effect

import (
	"crypto/sha256"

	"github.com/tierwall/tierwall/policy"
)

// finding is what is opened between a subject and a peer. A row shows one or more findings.
type finding struct {
	*opening
	direction             policy.Direction
	subject               *representative
	subjectSide, peerSide Peer
	subjectKey, peerKey   sideKey
	potential, blocked    bool
}

// findingKey is equal for findings whose rows may be merged.
type findingKey struct {
	direction          policy.Direction
	opening            [sha256.Size]byte
	subject, peer      sideKey
	potential, blocked bool
}

// sideKey is equal for the sides of rows that may be merged. Names and labels of pods may differ.
type sideKey struct {
	kind      Kind
	namespace *namespace
	role      string
	network   string
	except    string
}

func (c *comparison) sideKey(s *representative, m clusterState) sideKey {
	return sideKey{kind: c.describePeer(s, m).Kind, namespace: s.namespace, role: s.kinds[m].role}
}

func (f finding) mergeKey() findingKey {
	return findingKey{f.direction, f.id, f.subjectKey, f.peerKey, f.potential, f.blocked}
}

func (f finding) toRow() Row {
	row := Row{Direction: directionOf[f.direction], Ports: f.ports, Via: f.sortedRefs(f.subject.namespace), Potential: f.potential, Blocked: f.blocked}
	row.From, row.To = f.fromAndTo()
	return row
}

func (f finding) fromAndTo() (from, to Peer) {
	if f.direction == policy.Egress {
		return f.subjectSide, f.peerSide
	}
	return f.peerSide, f.subjectSide
}
