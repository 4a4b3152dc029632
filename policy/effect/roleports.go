package effect

import (
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// rolePorts aggregates findings by the roles of their sides.
type rolePorts struct {
	ports map[rolePair]map[string]bool
	seen  map[rolesOpening]bool
}

type rolePair struct{ from, to string }

type rolesOpening struct {
	rolePair
	opening [sha256.Size]byte
}

func newRolePorts() *rolePorts {
	return &rolePorts{ports: map[rolePair]map[string]bool{}, seen: map[rolesOpening]bool{}}
}

// addFinding adds a finding, unless it is an egress finding that the other side blocks.
func (r *rolePorts) addFinding(f finding) {
	from, to := f.fromAndTo()
	pair := rolePair{from.Role, to.Role}
	key := rolesOpening{pair, f.id}
	if pair.from == "" || pair.to == "" || f.direction == policy.Egress && f.blocked || r.seen[key] {
		return
	}
	r.seen[key] = true
	if r.ports[pair] == nil {
		r.ports[pair] = map[string]bool{}
	}
	for _, p := range f.ports {
		r.ports[pair][p] = true
	}
}

func (r *rolePorts) toRoles() Roles {
	added := map[string]map[string][]string{}
	for pair, ports := range r.ports {
		if added[pair.from] == nil {
			added[pair.from] = map[string][]string{}
		}
		added[pair.from][pair.to] = slices.Sorted(maps.Keys(ports))
	}
	return Roles{Added: added}
}
