"""Writes allowed.txt and python2.txt beside the package: the names that an honest model may have, and what each may be used for.

Run by hand in an environment with scikit-learn, numpy, scipy and pandas: python make_allowed.py
It adds to what is there, so that the names of several versions come together: run it in an environment of each.

Whole packages are never allowed, only what this script finds or lists by name:
- classes of scikit-learn and its extension modules, since unpickling fills them without calling a constructor (use "new"), or by a constructor
  or a function of Cython's that only stores numbers (use "call");
- distributions, sparse arrays, splines and trees of scipy;
- functions that compute and do nothing else, which a model may hold (use "ref"): they may be mentioned, not called while the file is loaded.
"""

import enum
import importlib
import inspect
import pkgutil
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse
import scipy.spatial.distance
import scipy.special
import scipy.stats
import sklearn
from sklearn.base import BaseEstimator

warnings.simplefilter("ignore")
package = Path(__file__).parent.parent
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, not by C
STRENGTH = {"ref": 0, "new": 1, "call": 2}

allowed = {}  # (module, name) -> [use, items, set of parameters]


def allow(module, name, use="ref", items=False, params=()):
    entry = allowed.setdefault((module, name), [use, items, set()])
    entry[0] = max(entry[0], use, key=STRENGTH.get)
    entry[1] |= items
    entry[2].update(params)


def read(path):
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            module, name, use, *params = line.split(" ")
            allow(module, name, use.removesuffix(",items"), use.endswith(",items"), params)


def allow_class(cls):
    if issubclass(cls, BaseException) or "." in cls.__qualname__:
        return
    if cls.__name__.endswith(("TreeBuilder", "Controller")):
        return
    use = "new" if cls.__flags__ & HEAP_TYPE and not issubclass(cls, enum.Enum) else "call"
    params = cls._get_param_names() if issubclass(cls, BaseEstimator) else ()
    allow(cls.__module__, cls.__qualname__, use, issubclass(cls, (dict, list)), params)


# Not for models: data sets are downloads, tests and plots are neither, externals are other people's, parallel runs what it is given.
OUT = ("tests", "conftest", "datasets", "externals", "_build_utils", "_testing", "estimator_checks", "_test_common", "_mocking", "parallel",
       "_plot", "_plotting", "setup", "_min_dependencies", "_joblib", "experimental", "callback", "callbacks", "_show_versions", "_repr_html",
       "_estimator_html_repr", "_optional_dependencies", "_bunch", "_available_if", "deprecation", "fixes", "_response", "_pprint",
       # Work for a while and are never kept, so that their memory would be at a file's mercy.
       "_pairwise_distances_reduction", "_vector_sentinel", "_partitioner", "_splitter", "_criterion", "histogram", "splitting",
       "_hierarchical_fast", "_cyutility", "_array_api", "_cython_blas", "_isfinite", "_seq_dataset")


def modules(root):
    for info in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
        if any(part in OUT for part in info.name.split(".")):
            continue
        try:
            yield importlib.import_module(info.name)
        except Exception as err:  # optional dependencies
            print("skipped", info.name, err)


def scikit_learn():
    for module in modules(sklearn):
        for name, member in vars(module).items():
            if inspect.isclass(member) and member.__module__ == module.__name__:
                allow_class(member)
            elif name.startswith("__pyx_unpickle_") and not name.endswith(("TreeBuilder", "Controller")) or name == "newObj":
                allow(module.__name__, name, "call")
    for module in ("sklearn.utils", "sklearn.utils._bunch"):
        allow(module, "Bunch", "new", items=True)
    # Functions that compute, which scorers, selectors and transformers hold.
    for name in ("metrics", "metrics.pairwise", "feature_selection", "preprocessing"):
        public = importlib.import_module("sklearn." + name)
        for member in (getattr(public, n, None) for n in public.__all__ if not n.startswith("_")) if hasattr(public, "__all__") else vars(public).values():
            if inspect.isfunction(member) and member.__module__.startswith(("sklearn.metrics.", "sklearn.feature_selection.", "sklearn.preprocessing.")) and not member.__name__.startswith("_"):
                allow(member.__module__, member.__qualname__)
    allow("sklearn.metrics._scorer", "_passthrough_scorer")
    for name in ("_kmeans_single_lloyd", "_kmeans_single_elkan"):  # in BisectingKMeans
        allow("sklearn.cluster._kmeans", name)
    # scikit-learn 1.0 and 1.1, which do not run everywhere any more.
    for name in ("LossFunction RegressionLossFunction LeastSquaresError LeastAbsoluteError HuberLossFunction QuantileLossFunction "
                 "ClassificationLossFunction BinomialDeviance MultinomialDeviance ExponentialLoss").split():
        allow("sklearn.ensemble._gb_losses", name, "new")
    for name in "LeastSquares LeastAbsoluteDeviation Poisson BinaryCrossEntropy CategoricalCrossEntropy".split():
        allow("sklearn.ensemble._hist_gradient_boosting.loss", name, "new")
    for name in ("DistanceMetric EuclideanDistance SEuclideanDistance ManhattanDistance ChebyshevDistance MinkowskiDistance WMinkowskiDistance "
                 "MahalanobisDistance HammingDistance CanberraDistance BrayCurtisDistance JaccardDistance MatchingDistance DiceDistance "
                 "KulsinskiDistance RogersTanimotoDistance RussellRaoDistance SokalMichenerDistance SokalSneathDistance HaversineDistance").split():
        for module in ("sklearn.neighbors._dist_metrics", "sklearn.metrics._dist_metrics"):
            allow(module, name, "call")
    for module in ("sklearn.neighbors._dist_metrics", "sklearn.metrics._dist_metrics", "sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree"):
        allow(module, "newObj", "call")


NUMPY_FUNCTIONS = (
    "abs all amax amin any argmax argmin argsort around array asarray asanyarray ascontiguousarray asfortranarray atleast_1d atleast_2d average "
    "column_stack concatenate copy cumprod cumsum diff digitize dot expand_dims fliplr flipud full_like hstack interp log max mean median min "
    "nan_to_num nanmax nanmean nanmedian nanmin nanpercentile nanquantile nanstd nansum nanvar ones_like percentile prod ptp quantile ravel "
    "repeat reshape round searchsorted sort squeeze stack std sum swapaxes take tile transpose unique var vstack where zeros_like identity eye"
).split()


def numpy():
    scalars = {t.__name__ for t in np.sctypeDict.values()} | {"generic", "number", "integer", "floating", "inexact", "object_", "bool_", "bool",
                                                               "str_", "bytes_", "void", "string_", "unicode_", "float_", "int_", "record"}
    for name in scalars:
        allow("numpy", name)
    for name, member in vars(np).items():
        if isinstance(member, np.ufunc):
            for module in ("numpy", "numpy.core._multiarray_umath", "numpy._core._multiarray_umath", "numpy.core.umath", "numpy._core.umath"):
                allow(module, name)
                allow(module, member.__name__)
    for name in NUMPY_FUNCTIONS:
        allow("numpy", name)
    for name in ("nan", "inf", "pi", "e", "newaxis"):
        allow("numpy", name)
    allow("numpy", "dtype", "call")
    for module in ("numpy", "numpy.lib.function_base"):
        allow(module, "vectorize", "new")  # in scipy's discrete distributions
    for name in ("ndarray", "matrix", "memmap", "recarray"):
        allow("numpy", name)
    for core in ("numpy.core", "numpy._core"):
        for name in ("_reconstruct", "scalar"):
            allow(core + ".multiarray", name, "call")
        allow(core + ".numeric", "_frombuffer", "call")
        allow(core, "_ufunc_reconstruct", "call")
    for module in ("numpy.ma.core", "numpy.ma"):
        allow(module, "_mareconstruct", "call")
        allow(module, "MaskedArray")
        allow(module, "masked_array")
    allow("numpy.ma.core", "MaskedConstant", "call")
    for name in ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"):
        allow("numpy.random._pickle", name, "call")
    for module, name in (("_mt19937", "MT19937"), ("_pcg64", "PCG64"), ("_pcg64", "PCG64DXSM"), ("_philox", "Philox"), ("_sfc64", "SFC64"),
                         ("mtrand", "RandomState"), ("_generator", "Generator")):
        allow("numpy.random." + module, name)
    allow("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence", "call")
    allow("numpy.random.bit_generator", "SeedSequence")
    for name in dir(getattr(np, "dtypes", None)):
        if name.endswith("DType"):
            allow("numpy.dtypes", name)
    for name in ("Polynomial", "Chebyshev", "Legendre", "Hermite", "HermiteE", "Laguerre"):
        allow("numpy.polynomial." + name.lower().replace("hermitee", "hermite_e"), name, "new")
    allow("numpy.lib.polynomial", "poly1d", "new")
    allow("numpy.lib._polynomial_impl", "poly1d", "new")


def scipy_():
    for kind in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil"):
        for module in (f"scipy.sparse._{kind}", f"scipy.sparse.{kind}"):
            for shape in ("matrix", "array"):
                allow(module, f"{kind}_{shape}", "new")
    for module, names in {
        "interpolate._bsplines": "BSpline", "interpolate._interpolate": "PPoly BPoly interp1d", "interpolate.interpolate": "PPoly BPoly interp1d",
        "interpolate._cubic": "CubicSpline PchipInterpolator Akima1DInterpolator CubicHermiteSpline",
        "interpolate._fitpack2": "UnivariateSpline InterpolatedUnivariateSpline LSQUnivariateSpline",
        "interpolate._rgi": "RegularGridInterpolator", "spatial._kdtree": "KDTree", "spatial.kdtree": "KDTree",
        "optimize._lbfgsb_py": "LbfgsInvHessProduct", "stats._kde": "gaussian_kde",
        "stats._distn_infrastructure": "rv_frozen rv_continuous_frozen rv_discrete_frozen",
    }.items():
        for name in names.split():
            allow("scipy." + module, name, "new")
    for module in ("optimize._optimize", "optimize.optimize"):
        allow("scipy." + module, "OptimizeResult", "new", items=True)
    for module in ("spatial._ckdtree", "spatial.ckdtree"):
        allow("scipy." + module, "cKDTree", "call")
    for name in dir(scipy.stats):
        distribution = type(getattr(scipy.stats, name))
        if issubclass(distribution, (scipy.stats.rv_continuous, scipy.stats.rv_discrete)) and distribution.__module__.startswith("scipy.stats."):
            allow(distribution.__module__, distribution.__qualname__, "new")
            if issubclass(distribution, scipy.stats.rv_discrete):  # by cloudpickle
                allow(distribution.__module__, distribution.__qualname__ + "._entropy")
    for name, member in vars(scipy.special).items():
        if isinstance(member, np.ufunc):
            for module in ("scipy.special", "scipy.special._ufuncs"):
                allow(module, member.__name__)
    for name in ("asarray", "astype"):  # in splines
        allow("scipy._lib.array_api_compat.numpy._aliases", name)
    for name in ("euclidean sqeuclidean cityblock chebyshev minkowski mahalanobis cosine correlation canberra braycurtis hamming jaccard dice "
                 "jensenshannon rogerstanimoto russellrao sokalmichener sokalsneath yule seuclidean").split():
        allow("scipy.spatial.distance", name)


def pandas():
    frames = {
        "pandas": "DataFrame Series Index RangeIndex MultiIndex CategoricalIndex DatetimeIndex",
        "pandas.core.frame": "DataFrame", "pandas.core.series": "Series",
        "pandas.core.internals.managers": "BlockManager SingleBlockManager",
        "pandas.core.arrays.categorical": "Categorical", "pandas.core.dtypes.dtypes": "CategoricalDtype",
    }
    for module, names in frames.items():
        for name in names.split():
            allow(module, name, "new")
    for name in ("CategoricalDtype", "Timestamp", "Timedelta"):
        allow("pandas", name)
    allow("pandas.core.indexes.base", "_new_Index", "call")
    allow("pandas._libs.internals", "_unpickle_block", "call")
    allow("pandas._libs.internals", "__pyx_unpickle_BlockManager", "call")
    allow("pandas._libs.internals", "BlockPlacement", "call")
    for module, name in (("base", "Index"), ("range", "RangeIndex"), ("multi", "MultiIndex"), ("category", "CategoricalIndex"), ("numeric", "Int64Index"),
                         ("numeric", "Float64Index")):
        allow("pandas.core.indexes." + module, name)
    allow("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked", "call")
    for name in ("Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64").split():
        allow("pandas.core.arrays.integer", name + "Dtype", "call")
    for name in ("Float32Dtype", "Float64Dtype"):
        allow("pandas.core.arrays.floating", name, "call")
    allow("pandas.core.arrays.boolean", "BooleanDtype", "call")
    allow("pandas.core.arrays.string_", "StringDtype", "call")
    allow("pandas.core.arrays.string_", "StringArray", "new")
    allow("pandas._libs.missing", "NAType")
    allow("pandas._libs.missing", "NA")


def standard_library():
    for name in "object int float complex bool str bytes bytearray list tuple slice range".split():
        allow("builtins", name, "call")
    for name in ("dict", "set", "frozenset"):
        allow("builtins", name, "call", items=True)
    for name in ("Ellipsis", "NotImplemented", "None", "abs", "len", "max", "min", "sum", "round", "sorted"):
        allow("builtins", name)
    for name in ("OrderedDict", "defaultdict", "Counter", "deque"):
        allow("collections", name, "call", items=True)
    for name in ("date", "time", "datetime", "timedelta", "timezone"):
        allow("datetime", name, "call")
    allow("decimal", "Decimal", "call")
    allow("fractions", "Fraction", "call")
    allow("functools", "partial", "call")
    allow("copyreg", "_reconstructor", "call")
    allow("copyreg", "__newobj__", "call")
    allow("copyreg", "__newobj_ex__", "call")
    allow("_codecs", "encode", "call")
    # Both only ever called in their place, never mentioned: see judge.go.
    allow("builtins", "getattr", "call")
    allow("cloudpickle.cloudpickle", "_builtin_type", "call")
    allow("joblib.numpy_pickle", "NumpyArrayWrapper", "new")


HEAD = """\
# The names that an honest model may have: module, name, what it may be used for, the estimator's parameters.
#   ref: mentioned, never called while the file is loaded; new: made by __new__ alone; call: called; items: takes items as a list or dict does
# Written by testdata/make_allowed.py, which adds to what is here. Review what it adds.
"""


def write(path):
    lines = []
    for (module, name), (use, items, params) in sorted(allowed.items()):
        lines.append(" ".join([module, name, use + (",items" if items else ""), *sorted(params)]))
    path.write_text(HEAD + "\n".join(lines) + "\n")
    print(len(lines), "names, scikit-learn", sklearn.__version__, "numpy", np.__version__)


def python2(path):
    """The names that pickle changes in protocols 0 to 2 (Lib/_compat_pickle.py)."""
    import _compat_pickle

    lines = [f"{old} {new}" for old, new in sorted(_compat_pickle.IMPORT_MAPPING.items())]
    lines += [" ".join(old + new) for old, new in sorted(_compat_pickle.NAME_MAPPING.items())]
    path.write_text("# What pickle makes of the names of Python 2: module module, or module name module name. Written by testdata/make_allowed.py\n"
                    + "\n".join(lines) + "\n")


if __name__ == "__main__":
    read(package / "allowed.txt")
    scikit_learn()
    numpy()
    scipy_()
    pandas()
    standard_library()
    write(package / "allowed.txt")
    python2(package / "python2.txt")
