package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// metric is a metric as the source declares it.
type metric struct {
	name, kind, help string
	labels           []string
}

// renderMetrics lists the metrics that webhook and enforcer declare.
func renderMetrics(root string) (string, error) {
	var b strings.Builder
	b.WriteString("# Metrics\n\nWhat Prometheus reads from webhook and enforcers, beside the metrics of the Go runtime, of controller-runtime and of client-go.\n")
	for _, part := range []struct{ title, dir string }{{"Webhook", "webhook"}, {"Enforcer", "enforcer"}} {
		found, err := declaredMetrics(filepath.Join(root, part.dir))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | |\n|---|---|---|---|\n", part.title)
		for _, m := range found {
			labels := ""
			if len(m.labels) > 0 {
				labels = "`" + strings.Join(m.labels, "`, `") + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, labels, cell(m.help))
		}
	}
	return b.String(), nil
}

// declaredMetrics returns the metrics of the Go files below a directory, by name.
func declaredMetrics(dir string) ([]metric, error) {
	byName := map[string]metric{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		collectMetrics(file, byName)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []metric
	for _, m := range byName {
		out = append(out, m)
	}
	slices.SortFunc(out, func(x, y metric) int { return cmp.Compare(x.name, y.name) })
	return out, nil
}

// collectMetrics finds calls of prometheus.NewX with options, and rows of tables whose first columns are a name and a help.
func collectMetrics(file *ast.File, into map[string]metric) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			fun, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || !strings.HasPrefix(fun.Sel.Name, "New") || len(n.Args) == 0 {
				return true
			}
			options, ok := n.Args[0].(*ast.CompositeLit)
			if !ok {
				return true
			}
			m := metric{name: optionOf(options, "Name"), help: optionOf(options, "Help"), kind: kindOf(fun.Sel.Name)}
			if len(n.Args) > 1 {
				m.labels = texts(n.Args[1])
			}
			addMetric(into, m)
		case *ast.CompositeLit:
			if row := texts(n); len(n.Elts) >= 2 && len(row) == 2 {
				addMetric(into, metric{name: row[0], help: row[1], kind: "gauge"})
			}
		}
		return true
	})
}

// addMetric keeps a metric of tierwall's.
func addMetric(into map[string]metric, m metric) {
	if strings.HasPrefix(m.name, "tierwall_") && m.help != "" {
		into[m.name] = m
	}
}

// kindOf returns the type of metric that a constructor such as NewGaugeVec makes.
func kindOf(constructor string) string {
	for _, kind := range []string{"Gauge", "Counter", "Histogram", "Summary"} {
		if strings.Contains(constructor, kind) {
			return strings.ToLower(kind)
		}
	}
	return ""
}

// optionOf returns the text of a field of an options literal.
func optionOf(options *ast.CompositeLit, field string) string {
	for _, e := range options.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == field {
				return literal(kv.Value)
			}
		}
	}
	return ""
}

// texts returns the string literals that a composite literal begins with.
func texts(e ast.Expr) []string {
	list, ok := e.(*ast.CompositeLit)
	if !ok {
		return nil
	}
	var out []string
	for _, e := range list.Elts {
		text := literal(e)
		if text == "" {
			break
		}
		out = append(out, text)
	}
	return out
}

// literal returns the value of a string literal, or of several joined by +.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}
