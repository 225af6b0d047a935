package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/config"
)

// TestParseDotEnv_ReadsAsPythonDotenv has what python-dotenv 1.2.4 returned for each text.
func TestParseDotEnv_ReadsAsPythonDotenv(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       variables
	}{
		{"plain", "A=1\nB = two words  \nexport C=3\r\nD=", variables{"A": "1", "B": "two words", "C": "3", "D": ""}},
		{"comments", "# A=1\nB=x # y\nC=#z\nD= # none\nE=a#b\n", variables{"B": "x", "C": "#z", "D": "", "E": "a#b"}},
		{"quotes", "A='x # y'\nB=\"p\\\"q\\n\" # z\nC='it\\'s\\n'\n'D E'=1\n", variables{"A": "x # y", "B": "p\"q\n", "C": "it's\\n", "D E": "1"}},
		{"several lines", "A=\"one\ntwo\"\nB=1", variables{"A": "one\ntwo", "B": "1"}},
		{"last wins", "A=1\nA=2", variables{"A": "2"}},
		{"broken lines", "A='open\nB=2\n=x\nC=\"x\" y\nD", variables{"B": "2"}},
		{"dollar is no reference", "A=x\nB=pa$A$word", variables{"A": "x", "B": "pa$A$word"}},
		{"references", "A=x\nB=${A}/y\nC='${A}'\nD=${Z:-none}\nE=${A:-none}", variables{"A": "x", "B": "x/y", "C": "x", "D": "none", "E": "x"}},
		{"byte order mark", "\ufeffA=1", variables{"A": "1"}},
		{"empty", "", variables{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := config.ParseDotEnv(config.File{Name: ".env", Data: []byte(c.text)})
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestParseDotEnv_LeavesVariablesOfTheWorkerOut(t *testing.T) {
	t.Setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
	got, err := config.ParseDotEnv(config.File{Name: ".env", Data: []byte("MLFLOW_TRACKING_URI=http://evil/${MLFLOW_TRACKING_TOKEN}")})
	require.NoError(t, err)
	require.Equal(t, variables{"MLFLOW_TRACKING_URI": "http://evil/${MLFLOW_TRACKING_TOKEN}"}, got)
}

func TestParseDotEnv_RefusesWhatIsNoText(t *testing.T) {
	_, err := config.ParseDotEnv(config.File{Name: "x/.env", Data: []byte("A=\xff\xfe")})
	require.EqualError(t, err, "x/.env: is not UTF-8 text: save it as UTF-8")
	_, err = config.ParseDotEnv(config.File{Name: "x/.env", Data: []byte(strings.Repeat("x", 1<<20+1))})
	require.EqualError(t, err, "x/.env: is larger than a .env file may be: give lines of NAME=value")
}
