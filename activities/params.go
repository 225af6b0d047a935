package activities

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"registrar/internal/mlflow"
	"registrar/internal/modelfile"
)

const (
	// paramsPerBatch is MLflow's limit for one request (mlflow/utils/validation.py, MAX_PARAMS_TAGS_PER_BATCH).
	paramsPerBatch = 100
	// maxParamBytes is what older servers of MLflow 2 take of a param's value. Newer ones take 6000, and cut what is longer.
	maxParamBytes = 500
)

// isParamName tells whether MLflow takes the name for a param, on every system that it runs on.
func isParamName(name string) bool {
	return isName(name, func(c rune) bool {
		return c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("_-. /", c))
	})
}

// hyperparameters are what the model file tells of how the model was made: those whose names MLflow takes and the registration's own params
// leave free, the outermost first. The order is the same on each try, since the logged model gets the first batch alone.
func hyperparameters(model modelfile.Info, taken []mlflow.Param) []mlflow.Param {
	names := slices.SortedFunc(maps.Keys(model.Params), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, "__"), strings.Count(b, "__")), cmp.Compare(a, b))
	})
	var params []mlflow.Param
	for _, name := range names {
		isTaken := slices.ContainsFunc(taken, func(p mlflow.Param) bool { return p.Key == name })
		if isParamName(name) && !isTaken && name != ParamVersion {
			params = append(params, mlflow.Param{Key: name, Value: shown(model.Params[name])})
		}
	}
	return params
}

// shown is a value as MLflow's own clients log it, which is Python's str of it: that differs from repr for strings alone. A long one is cut,
// and says so.
func shown(repr string) string {
	const more = "..."
	if n := len(repr); n > 2 && repr[0] == '\'' && repr[n-1] == '\'' && !strings.Contains(repr, `\`) {
		repr = repr[1 : n-1]
	}
	if len(repr) <= maxParamBytes {
		return repr
	}
	end := maxParamBytes - len(more)
	for !utf8.RuneStart(repr[end]) {
		end--
	}
	return repr[:end] + more
}
