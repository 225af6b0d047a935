package workflows_test

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"registrar/workflows"
)

func TestID_OfAUsualNameIsReadable(t *testing.T) {
	require.Equal(t, "register/ACRAS_RandomForest_v1/0123456789abcdef", workflows.RegistrationID("ACRAS_RandomForest_v1", "0123456789abcdef0123"))
	require.Equal(t, "audit/credit-risk.v1/1500", workflows.AuditID("credit-risk.v1", time.UnixMilli(1500)))
	require.Regexp(t, `^promote/credit/[0-9a-f]{16}$`, workflows.PromotionID("credit", "http://mlflow:5000", ""))
}

// A name in one workspace is another model than the same name in another one.
func TestPromotionID_IsOfTheWorkspace(t *testing.T) {
	in := func(workspace string) string { return workflows.PromotionID("credit", "http://mlflow:5000", workspace) }
	require.Equal(t, "promote/credit/5fb972d3727567da", in(""), "executions under way have it")
	require.NotEqual(t, in(""), in("risk"))
	require.NotEqual(t, in("fraud"), in("risk"))
	require.Equal(t, in(""), in("default"), "what MLflow calls the workspace of who names none")
	require.Equal(t, in("risk"), in(" risk "), "as it arrives in a header")
}

// gRPC's headers take printable ASCII, and a Temporal server on SQL has room for 255 characters.
func TestID_OfAnyNameCanTravel(t *testing.T) {
	names := []string{"Bonität", "信用", "a b", "50%", "50%25", strings.Repeat("x", 256), strings.Repeat("x", 255) + "y", strings.Repeat("信", 256)}
	seen := map[string]string{}
	for _, name := range names {
		registration := workflows.RegistrationID(name, strings.Repeat("0", 64))
		for _, id := range []string{
			registration, workflows.PromotionID(name, "http://mlflow:5000", ""), workflows.AuditID(name, time.Now()),
			workflows.SweepID(registration, "00000000-0000-4000-8000-000000000000"),
		} {
			require.LessOrEqual(t, len(id), 255, id)
			require.NotContains(t, id, " ")
			require.Negative(t, strings.IndexFunc(id, func(r rune) bool { return r > unicode.MaxASCII }), id)
			require.NotContains(t, seen, id, "%q and %q share an id", name, seen[id])
			seen[id] = name
		}
	}
}
