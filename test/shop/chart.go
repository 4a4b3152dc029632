package shop

import (
	"path/filepath"

	"github.com/tierwall/tierwall/images"
)

// Chart is a chart's folder and the version of the images that it installs by default.
type Chart struct{ Dir, AppVersion string }

// ReadChart reads the chart below the repository's root.
func ReadChart(root string) (Chart, error) {
	version, err := images.ChartVersion(root)
	return Chart{Dir: filepath.Join(root, "charts", "tierwall"), AppVersion: version}, err
}
