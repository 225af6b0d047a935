package workflows

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMetrics_CountAllOutcomesAndFindingsFromZero(t *testing.T) {
	var outcomes []string
	for _, outcome := range countedOutcomes {
		outcomes = append(outcomes, string(outcome))
	}
	require.Equal(t, constants(t, "../internal/receipt/receipt.go", func(_, of string) bool { return of == "Outcome" }), outcomes)
	require.Equal(t, constants(t, "../activities/audit.go", func(name, _ string) bool { return strings.HasPrefix(name, "Finding") }), countedFindings)
}

// constants are the texts of a file's constants that are wanted, by name and type, in their order.
func constants(t *testing.T, path string, wanted func(name, of string) bool) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	require.NoError(t, err)
	var texts []string
	ast.Inspect(file, func(node ast.Node) bool {
		declaration, ok := node.(*ast.GenDecl)
		if !ok || declaration.Tok != token.CONST {
			return true
		}
		for _, spec := range declaration.Specs {
			value := spec.(*ast.ValueSpec)
			of, _ := value.Type.(*ast.Ident)
			if name := value.Names[0].Name; of != nil && wanted(name, of.Name) || of == nil && wanted(name, "") {
				text, err := strconv.Unquote(value.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				texts = append(texts, text)
			}
		}
		return true
	})
	return texts
}
