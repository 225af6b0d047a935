// Command promql lists what PromQL expressions ask for, so that a test can hold it against the metrics that there are: of each selector in
// the alert rules (.yml) and the Grafana dashboards (.json) that it is given, the metric and the labels. It prints one JSON array.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// selector is one metric that an expression asks for.
type selector struct {
	File   string   `json:"file"`
	Where  string   `json:"where"` // alert or panel
	Expr   string   `json:"expr"`
	Metric string   `json:"metric"`
	Labels []string `json:"labels"` // that it is narrowed or grouped by
}

func main() {
	var all []selector
	for _, file := range os.Args[1:] {
		found, err := selectorsIn(file)
		if err != nil {
			fmt.Fprintf(os.Stderr, "promql: %s: %v\n", file, err)
			os.Exit(1)
		}
		all = append(all, found...)
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		fmt.Fprintf(os.Stderr, "promql: %v\n", err)
		os.Exit(1)
	}
}

func selectorsIn(file string) ([]selector, error) {
	expressions, err := expressionsIn(file)
	if err != nil {
		return nil, err
	}
	var all []selector
	for _, e := range expressions {
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(e.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", e.where, e.text, err)
		}
		for _, s := range selectorsOf(parsed) {
			s.File, s.Where, s.Expr = file, e.where, e.text
			all = append(all, s)
		}
	}
	return all, nil
}

func selectorsOf(expression parser.Expr) []selector {
	var all []selector
	parser.Inspect(expression, func(node parser.Node, path []parser.Node) error {
		vector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		s := selector{Metric: vector.Name, Labels: []string{}}
		for _, matcher := range vector.LabelMatchers {
			if matcher.Name != labels.MetricName {
				s.Labels = append(s.Labels, matcher.Name)
			}
		}
		s.Labels = append(s.Labels, groupedBy(append(slices.Clone(path), node))...)
		slices.Sort(s.Labels)
		s.Labels = slices.Compact(s.Labels)
		all = append(all, s)
		return nil
	})
	return all
}

// groupedBy are the labels that aggregations ask of the last node of the path from the expression's root.
func groupedBy(path []parser.Node) []string {
	var all []string
	for i, above := range path {
		switch above := above.(type) {
		case *parser.AggregateExpr:
			all = append(all, above.Grouping...)
		case *parser.BinaryExpr:
			// Of these two the right side only selects: none of its labels comes out.
			if (above.Op == parser.LAND || above.Op == parser.LUNLESS) && path[i+1] == parser.Node(above.RHS) {
				all = nil
			}
		}
	}
	return all
}

// expression is PromQL, and where it stands.
type expression struct{ where, text string }

func expressionsIn(file string) ([]expression, error) {
	if filepath.Ext(file) == ".json" {
		return dashboard(file)
	}
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var all []expression
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			all = append(all, expression{where: rule.Alert + rule.Record, text: rule.Expr})
		}
	}
	return all, nil
}

// dashboard are the expressions of a dashboard's panels and variables. Grafana's own variables stand for what they are at run time.
func dashboard(file string) ([]expression, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var board struct {
		Panels []struct {
			Title   string                  `json:"title"`
			Targets []struct{ Expr string } `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(data, &board); err != nil {
		return nil, err
	}
	var all []expression
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			text := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$job", "registrar").Replace(target.Expr)
			all = append(all, expression{where: panel.Title, text: text})
		}
	}
	return all, nil
}
