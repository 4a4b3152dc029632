// Package charts holds what of the Helm chart programs need.
package charts

import _ "embed" // for Values

// Values are the chart's default values.
//
//go:embed tierwall/values.yaml
var Values []byte
