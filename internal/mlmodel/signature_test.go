package mlmodel

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// signedSpec is joblibSpec fitted on a data frame whose names are as bad as names get.
func signedSpec(columns int) Spec {
	spec := joblibSpec()
	spec.Signature = SignatureColumns
	spec.Info.Classes, spec.Info.ClassesType = []string{"'bad'", "'good'"}, "str"
	spec.Info.FeatureNamesIn = []string{"it's: ä", `b"\,:<`, "two  blanks", "naïve 🙂 \x7f"}
	for i := range columns {
		spec.Info.FeatureNamesIn = append(spec.Info.FeatureNamesIn, fmt.Sprintf("some long column name %d", i))
	}
	return spec
}

func TestFiles_SignWhatIsSure(t *testing.T) {
	requireGolden(t, "signed", signedSpec(6))
}

func TestFiles_LeaveOpenWhatIsNotSure(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"by default, which columns":        func(s *Spec) { s.Signature = "" },
		"columns of one name":              func(s *Spec) { s.Info.FeatureNamesIn = []string{"a", "a"} },
		"columns of which only the number": func(s *Spec) { s.Info.FeatureNamesIn, s.Info.NFeaturesIn = nil, 4 },
	} {
		spec := signedSpec(0)
		change(&spec)
		_, content := contents(t, spec)
		require.Contains(t, string(content["MLmodel"]), "signature:\n  inputs: null\n  outputs: '[{", name)
	}
	spec := joblibSpec()
	_, content := contents(t, spec)
	require.NotContains(t, string(content["MLmodel"]), "signature", "neither columns nor labels")
}
