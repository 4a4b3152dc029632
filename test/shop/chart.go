package shop

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// Chart is a chart's folder and the version of the images that it installs by default.
type Chart struct{ Dir, AppVersion string }

// ReadChart reads the chart below the repository's root.
func ReadChart(root string) (Chart, error) {
	c := Chart{Dir: filepath.Join(root, "charts", "tierwall")}
	text, err := os.ReadFile(filepath.Join(c.Dir, "Chart.yaml"))
	if err != nil {
		return Chart{}, fmt.Errorf("read the chart: %w", err)
	}
	var file struct {
		AppVersion string `json:"appVersion"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil || file.AppVersion == "" {
		return Chart{}, fmt.Errorf("read the chart: appVersion %q: %w", file.AppVersion, err)
	}
	c.AppVersion = file.AppVersion
	return c, nil
}
