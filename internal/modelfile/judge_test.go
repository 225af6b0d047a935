package modelfile

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What hostile files do in TestInspect_RefusesEveryEvasion, honest ones do in a way of their own.
func TestInspect_AllowsHonestCalls(t *testing.T) {
	for name, program := range map[string]string{
		"object of protocol 0":      "ccopy_reg\n_reconstructor\n(cpandas\nSeries\nc__builtin__\nobject\nNtR.",
		"bunch of protocol 0":       "ccopy_reg\n_reconstructor\n(csklearn.utils\nBunch\nc__builtin__\ndict\n(dS'a'\ncsklearn.pipeline\nPipeline\n)\x81stR.",
		"set of protocol 2":         "\x80\x02c__builtin__\nset\n](K\x01K\x02e\x85R.",
		"ordered dictionary":        "\x80\x02ccollections\nOrderedDict\n]](K\x01K\x02ea\x85R.",
		"dictionary of estimators":  "\x80\x04}\x8c\x04keys\x8c\x10sklearn.pipeline\x8c\x08Pipeline\x93)\x81s.",
		"dictionary by default":     "\x80\x04ccollections\ndefaultdict\ncbuiltins\nlist\n\x85R.",
		"slice by a scalar":         "\x80\x04cbuiltins\nslice\nNcnumpy._core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02i8\x89\x88\x87R(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbC\x08\x03\x00\x00\x00\x00\x00\x00\x00\x86RN\x87R.",
		"type by its class":         "\x80\x04cnumpy\ndtype\ncnumpy\nrecord\n\x89\x88\x87R.",
		"fraction":                  "\x80\x04cfractions\nFraction\n\x8c\x04-1/3\x85R.",
		"array in a method's place": "\x80\x04csklearn.pipeline\nPipeline\n)\x81}\x8c\x04keysK\x01sb.",
		"estimator in its own":      "\x80\x04csklearn.pipeline\nPipeline\n)\x81}\x8c\x09transformcsklearn.pipeline\nPipeline\n)\x81sb.",
		"function as a parameter":   "\x80\x04csklearn.preprocessing._function_transformer\nFunctionTransformer\n)\x81}\x8c\x04funccnumpy\nlog1p\nsb.",
	} {
		t.Run(name, func(t *testing.T) {
			info, err := inspected(t, []byte(program))
			require.NoError(t, err)
			require.Equal(t, Allowed, info.Verdict, "%v", info.Reasons)
		})
	}
}

// overridden is an object that has a harmless function in the place of a method.
func overridden(method string) string {
	return "csklearn.preprocessing._data\nStandardScaler\n)\x81}" + short(method) + "cnumpy\nlog1p\nsb"
}

func TestInspect_RefusesCallablesInThePlaceOfMethods(t *testing.T) {
	const estimator = "csklearn.isotonic\nIsotonicRegression\n)\x81"
	for name, program := range map[string]string{
		"function":               overridden("keys"),
		"partial":                estimator + "}\x8c\x08_build_fcfunctools\npartial\ncnumpy\nlog1p\n\x85Rsb",
		"vectorized":             estimator + "}\x8c\x08_build_fcnumpy\nvectorize\n)\x81sb",
		"kernel":                 estimator + "}\x8c\x06astypecsklearn.gaussian_process.kernels\nRBF\n)\x81sb",
		"before others":          estimator + "}(\x8c\x08_build_fcnumpy\nlog1p\n\x8c\x04copyK\x01ub",
		"as a parameter's":       "csklearn.preprocessing._data\nStandardScaler\n)\x81}\x8c\x04copycnumpy\nlog1p\nsb",
		"in a bunch":             "csklearn.utils\nBunch\n)\x81(\x8c\x06astypecnumpy\nlog1p\nu",
		"computed":               estimator + "}cbuiltins\nstr\n\x8c\x08_build_f\x85Rcnumpy\nlog1p\nsb",
		"escaped":                estimator + "}S'\\x5fbuild_f'\ncnumpy\nlog1p\nsb",
		"computed, but no one's": estimator + "}cbuiltins\nstr\n\x8c\x09__class__\x85RK\x01sb",
		"of slots":               estimator + "N}\x8c\x04keyscnumpy\nlog1p\ns\x86b",
		"of a distribution":      "cscipy.stats._continuous_distns\nbeta_gen\n)\x81}\x8c\x0f_attach_methodscnumpy\nlog1p\nsb",
		"version":                estimator + "}\x8c\x10_sklearn_version" + estimator + "sb",
		"file":                   estimator + "}\x8c\x04funccnumpy\nmemmap\nsb",
	} {
		t.Run(name, func(t *testing.T) { requireDeceptive(t, "\x80\x04"+program+".") })
	}
}

func TestInspect_RefusesCallsThatAskObjects(t *testing.T) {
	const estimator = "csklearn.isotonic\nIsotonicRegression\n)\x81"
	for name, program := range map[string]string{
		"dict":           "cbuiltins\ndict\n" + estimator + "\x85R",
		"str":            "cbuiltins\nstr\n" + estimator + "\x85R",
		"in a list":      "cbuiltins\nlist\n]" + estimator + "a\x85R",
		"in a tuple":     "cbuiltins\nlist\n" + estimator + "\x85\x85R",
		"in an array":    "cbuiltins\nstr\ncnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K\x01\x85cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89]" + estimator + "atb\x85R",
		"filled later":   "]\x94](h\x00eq\x010h\x00" + estimator + "a0cbuiltins\ndict\nh\x01\x85R",
		"reconstructor":  "ccopyreg\n_reconstructor\ncsklearn.utils\nBunch\ncbuiltins\ndict\n" + estimator + "\x87R",
		"index":          "cpandas\nIndex\n" + estimator + "\x85\x81",
		"metric":         "csklearn.neighbors._ball_tree\nBallTree\n]]K\x00aaK\x01cnumpy\nlog1p\n\x87R",
		"extension":      "cnumpy.random.bit_generator\n__pyx_unpickle_SeedSequence\ncnumpy.random.bit_generator\nSeedSequence\nK\x00" + estimator + "\x85\x87R",
		"factory in str": "cbuiltins\nstr\nccollections\ndefaultdict\n" + estimator + "\x85R\x85R",
		"fraction":       "cfractions\nFraction\n\x8c\x0b1e999999999\x85R",
	} {
		t.Run(name, func(t *testing.T) { requireDeceptive(t, "\x80\x04"+program+".") })
	}
}

func requireDeceptive(t *testing.T, program string) {
	t.Helper()
	info, err := inspected(t, []byte(program))
	require.NoError(t, err)
	require.Equal(t, Refused, info.Verdict)
	require.Equal(t, Deceptive, info.Reasons[0].Severity, "%v", info.Reasons)
	require.Equal(t, Refused, Policy{Mode: PolicyDeny}.Judge(info).Verdict)
}
