package backend

import (
	"github.com/tierwall/tierwall/enforcer/droplog"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// Drivers are the backends that there are. The last one is preferred on every node.
var Drivers = List{nftablesDriver{}, iptablesDriver{}}

// sourceLog is how dropped packets of forged sources are logged.
func sourceLog(o Options) spoof.Log {
	return spoof.Log{Group: droplog.Group, Prefix: droplog.SpoofPrefix, PerSecond: o.LogDenials}
}
