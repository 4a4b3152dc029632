package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is one setting of the chart.
type value struct{ path, defaultText, about string }

// renderChart lists the settings of values.yaml with their defaults and comments.
func renderChart(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "charts", "tierwall", "values.yaml"))
	if err != nil {
		return "", err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return "", err
	}
	values, err := listValues("", doc.Content[0])
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Settings of the chart\n\nEach with its default, as in [values.yaml](../../charts/tierwall/values.yaml).\n\n| setting | default | |\n|---|---|---|\n")
	for _, v := range values {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.path, v.defaultText, v.about)
	}
	return b.String(), nil
}

// listValues returns the settings of a mapping. One that has a comment and holds others comes before these.
func listValues(prefix string, mapping *yaml.Node) ([]value, error) {
	var out []value
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, node := mapping.Content[i], mapping.Content[i+1]
		path, about := prefix+key.Value, cell(uncomment(key.HeadComment))
		if node.Kind == yaml.MappingNode && len(node.Content) > 0 {
			if about != "" {
				out = append(out, value{path: path, about: about})
			}
			inner, err := listValues(path+".", node)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		defaultText, err := inline(node)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, value{path: path, defaultText: "`" + defaultText + "`", about: about})
	}
	return out, nil
}

// inline returns a node in YAML on one line.
func inline(n *yaml.Node) (string, error) {
	flow := *n
	flow.Style |= yaml.FlowStyle
	flow.HeadComment, flow.LineComment, flow.FootComment = "", "", ""
	out, err := yaml.Marshal(&flow)
	return strings.Join(strings.Fields(string(out)), " "), err
}

// uncomment returns the text of a comment. Only its last paragraph is about the key below it.
func uncomment(comment string) string {
	paragraphs := strings.Split(strings.ReplaceAll(comment, "\n#\n", "\n\n"), "\n\n")
	var lines []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
	}
	return strings.Join(lines, " ")
}

// cell returns a text as a cell of a Markdown table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
