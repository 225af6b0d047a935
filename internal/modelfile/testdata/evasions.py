"""Writes model files that would run code, or hide it, into a folder, and prints a line of JSON for each: its name, and whether Python really
executes it (it then makes a folder beside it, or a file). None does anything else.

python evasions.py FOLDER
"""

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import pickle
import signal
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import scipy.stats
import skops.io
from sklearn.preprocessing import FunctionTransformer, StandardScaler

warnings.simplefilter("ignore")
folder = Path(sys.argv[1]).resolve()
model = StandardScaler().fit(np.arange(12.0).reshape(4, 3))
benign = pickle.dumps(model, protocol=4)
files = {}  # name -> (content, loader); without a loader Python would crash, or needs more than the file

P4, STOP = b"\x80\x04", b"."


def s(text):
    raw = text.encode()
    return b"\x8c" + bytes([len(raw)]) + raw if len(raw) < 256 else b"X" + struct.pack("<I", len(raw)) + raw


def g(module, name):
    return s(module) + s(name) + b"\x93"


def call(function, *args):
    return function + b"(" + b"".join(args) + b"tR"


def marker(name):
    return s(str(folder / ("ran-" + name)))


def code(name):
    return f"__import__('os').mkdir({str(folder / ('ran-' + name))!r})"


def mkdir(name):
    return call(g("posix", "mkdir"), marker(name))


def evasion(name, content, loader="pickle"):
    files[name] = (content, loader)


def numbered(index, push):
    return push + b"r" + struct.pack("<I", index) + b"0"


def recall(index):
    return b"j" + struct.pack("<I", index)


# Names, however they are spelled.
evasion("global", b"cposix\nmkdir\n(" + marker("global") + b"tR" + STOP)
evasion("stack_global", P4 + mkdir("stack_global") + STOP)
evasion("before_the_model", P4 + mkdir("before_the_model") + b"0" + benign[2:])
evasion("inst", b"(" + marker("inst") + b"iposix\nmkdir\n" + STOP)
evasion("obj", b"(cposix\nmkdir\n" + marker("obj") + b"o" + STOP)
evasion("names_by_memo", P4 + numbered(7, s("posix")) + numbered(9, s("mkdir")) + call(recall(7) + recall(9) + b"\x93", marker("names_by_memo")) + STOP)
evasion("memo_overwritten", P4 + numbered(7, s("sklearn.base")) + numbered(7, s("posix")) + call(recall(7) + s("mkdir") + b"\x93", marker("memo_overwritten")) + STOP)
evasion("memo_counted", P4 + s("sklearn.base") + b"q\x00q\x00" + b"0" + s("posix") + b"\x94" + b"0" + s("sklearn.base") + b"q\x020"
        + call(b"h\x01" + s("mkdir") + b"\x93", marker("memo_counted")) + STOP)
evasion("memo_overflow", P4 + b"".join(b"\x8c\x20%032d\x940" % n for n in range(400_000)) + numbered(500_000, s("posix"))
        + call(recall(500_000) + s("mkdir") + b"\x93", marker("memo_overflow")) + STOP)
evasion("callable_by_memo_overflow", P4 + g("posix", "mkdir") + b"q\x000" + b"".join(b"\x8c\x20%032d\x940" % n for n in range(400_000))
        + call(b"h\x00", marker("callable_by_memo_overflow")) + STOP)
evasion("unicode_escapes", P4 + call(b"V\\u0070osix\n" + s("mkdir") + b"\x93", marker("unicode_escapes")) + STOP)
evasion("string_escapes", P4 + call(b"S'\\x70osix'\n" + s("mkdir") + b"\x93", marker("string_escapes")) + STOP)
evasion("computed_name", P4 + call(call(g("builtins", "str"), b"C\x05posix", s("ascii")) + s("mkdir") + b"\x93", marker("computed_name")) + STOP)
evasion("dotted_through_joblib", P4 + call(g("joblib.numpy_pickle", "os.mkdir"), marker("dotted_through_joblib")) + STOP)
evasion("dotted_through_sklearn", P4 + call(g("sklearn.base", "inspect.os.mkdir"), marker("dotted_through_sklearn")) + STOP)
evasion("python2_names", b"\x80\x02c__builtin__\neval\n(" + s(code("python2_names")) + b"tR" + STOP)
evasion("protocol_changes", P4 + b"\x80\x02c__builtin__\neval\n(" + s(code("protocol_changes")) + b"tR" + STOP)
evasion("result_is_dropped", P4 + s("x") + mkdir("result_is_dropped") + b"0" + STOP)
evasion("extension", P4 + call(g("copyreg", "add_extension"), s("posix"), s("mkdir"), b"K\x07") + b"0\x82\x07(" + marker("extension") + b"tR" + STOP)
evasion("persistent_id", b"\x80\x02Pos.system\n.", "none")

# Functions that lead to others.
evasion("eval", P4 + call(g("builtins", "eval"), s(code("eval"))) + STOP)
evasion("exec", P4 + call(g("builtins", "exec"), s(code("exec"))) + STOP)
evasion("getattr", P4 + call(call(g("builtins", "getattr"), call(g("builtins", "__import__"), s("os")), s("mkdir")), marker("getattr")) + STOP)
evasion("getattr_of_a_module", P4 + call(call(g("builtins", "getattr"), g("joblib.numpy_pickle", "os"), s("mkdir")), marker("getattr_of_a_module")) + STOP)
evasion("import_module", P4 + call(call(g("builtins", "getattr"), call(g("importlib", "import_module"), s("os")), s("mkdir")), marker("import_module")) + STOP)
evasion("ufunc_reconstruct", P4 + call(call(g("numpy._core", "_ufunc_reconstruct"), s("posix"), s("mkdir")), marker("ufunc_reconstruct")) + STOP)
evasion("methodcaller", P4 + call(call(g("operator", "methodcaller"), s("mkdir"), marker("methodcaller")), g("joblib.numpy_pickle", "os")) + STOP)
evasion("random_constructor", P4 + call(g("numpy.random._pickle", "__randomstate_ctor"), marker("random_constructor"), g("posix", "mkdir")) + STOP)
evasion("partial_called", P4 + call(call(g("functools", "partial"), g("posix", "mkdir"), marker("partial_called"))) + STOP)
evasion("reduce", P4 + call(g("functools", "reduce"), g("posix", "mkdir"), b"(" + marker("reduce") + b"M\xff\x01t") + STOP)
evasion("defaultdict", P4 + call(g("collections", "defaultdict"), call(g("functools", "partial"), g("posix", "mkdir"), marker("defaultdict"))) + STOP)
evasion("timeit", P4 + call(g("timeit", "timeit"), s(code("timeit")), s("pass"), g("timeit", "default_timer"), b"K\x01") + STOP)
evasion("trace", P4 + call(g("cProfile", "run"), s(code("trace")), s("/dev/null")) + STOP)
evasion("debugger", P4 + call(g("doctest", "testsource"), g("os", "path"), s("join")) + STOP)
evasion("interpreter", P4 + call(g("code", "interact"), s("")) + STOP, "none")
evasion("run_path", P4 + call(g("runpy", "run_path"), s("/dev/null")) + STOP)
evasion("nested_pickle", P4 + call(g("pickle", "loads"), b"B" + struct.pack("<I", len(P4 + mkdir("nested_pickle") + STOP)) + P4 + mkdir("nested_pickle") + STOP) + STOP)
evasion("joblib_load", P4 + call(g("joblib", "load"), s("/nowhere")) + STOP)
evasion("numpy_memmap", P4 + call(g("numpy", "memmap"), marker("numpy_memmap"), s("uint8"), s("w+"), b"K\x00", b"K\x01\x85") + STOP)
evasion("fraction_bomb", P4 + call(g("fractions", "Fraction"), s("1e999999999")) + STOP, "none")
evasion("numpy_load", P4 + call(g("numpy", "load"), s("/nowhere")) + STOP)
evasion("pandas_read_pickle", P4 + call(g("pandas", "read_pickle"), s("/nowhere")) + STOP)
evasion("loky_wrapper", P4 + call(g("joblib.externals.loky.cloudpickle_wrapper", "_reconstruct_wrapper"),
                                  b"B" + struct.pack("<I", len(P4 + mkdir("loky_wrapper") + STOP)) + P4 + mkdir("loky_wrapper") + STOP, b"\x89") + STOP)
evasion("memory_bomb", P4 + call(g("builtins", "bytearray"), b"\x8a\x06\x00\x00\x00\x00\x00\x10") + STOP, "none")
source = f"def f(x):\n    {code('code_object')}\n    return x\n"
space = {}
exec(source, space)
space["f"].__module__ = "__main__"
evasion("code_object", cloudpickle.dumps(FunctionTransformer(space["f"])))
evasion("function_kept", pickle.dumps(FunctionTransformer(__import__("os").system)))

# Objects that are changed.
estimator = g("sklearn.preprocessing._data", "StandardScaler")
evasion("setstate_kept", P4 + estimator + b")\x81}" + s("__setstate__") + g("builtins", "eval") + b"sb" + s(code("setstate_kept")) + b"b" + STOP)
evasion("setstate_of_the_class", P4 + estimator + b"N}" + s("__setstate__") + g("builtins", "eval") + b"s\x86b0" + estimator + b")\x81"
        + s(code("setstate_of_the_class")) + b"b" + STOP)
evasion("attribute_of_a_function", P4 + g("numpy", "mean") + b"N}" + s("__doc__") + s("changed") + b"s\x86b" + STOP)
evasion("class_of_an_object", P4 + g("functools", "partial") + g("numpy", "mean") + b"\x85R(" + g("numpy", "mean") + b")}}" + s("__class__")
        + estimator + b"stb" + STOP, "none")

# Distributions of scipy execute a template from their own state.
distribution = pickle.dumps(scipy.stats.beta(2, 3), protocol=4)
template = scipy.stats.beta(2, 3).dist._parse_arg_template
altered = template.replace("return (a, b, ), loc, scale, moments", f"return {code('scipy_template')}")
state = scipy.stats.beta(2, 3).dist.__getstate__()


def scipy_state(pushed):
    return P4 + g("scipy.stats._continuous_distns", "beta_gen") + b")\x81" + pushed + b"b" + STOP


evasion("scipy_template", scipy_state(pickle.dumps({**state, "_parse_arg_template": code("scipy_template")}, protocol=2)[2:-1]))
evasion("scipy_template_added_to", scipy_state(pickle.dumps({**state, "_parse_arg_template": template + code("scipy_template_added_to")}, protocol=2)[2:-1]))
evasion("scipy_template_in_pairs", scipy_state(pickle.dumps([*state.items(), ("_parse_arg_template", code("scipy_template_in_pairs"))], protocol=2)[2:-1]))
evasion("scipy_template_twice", scipy_state(pickle.dumps(state, protocol=2)[2:-1] + s("_parse_arg_template") + s(code("scipy_template_twice")) + b"s"))


# Joblib's arrays, between which a reader may lose its way.
def dtype(kind, state=b""):
    made = g("numpy", "dtype") + s(kind) + b"\x89\x88\x87R"
    return made + state + b"b" if state else made


def dtype_state(size, flags=b"K\x00", fields=b"NN"):
    return b"(K\x03" + s("|") + b"N" + fields + size + b"K\x01" + flags + b"t"


def wrapper(kind, count, alignment=b"K\x10", subclass=g("numpy", "ndarray"), made=g("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81"):
    return (made + b"}(" + s("subclass") + subclass + s("shape") + b"K" + bytes([count]) + b"\x85" + s("order") + s("C") + s("dtype") + kind
            + s("allow_mmap") + b"\x88" + s("numpy_array_alignment_bytes") + alignment + b"ub")


def hiding(name, lead=b""):
    """What goes on harmlessly for a reader that takes the array for shorter than it is."""
    return b"0N." + b"\x00" * 253, b"0" + mkdir(name) + STOP


for name, kind in {
    "dtype_size_lies": dtype("f8", dtype_state(b"K\x01")),
    "dtype_by_alias": dtype("float64"),
    "dtype_of_parts": g("numpy", "dtype") + s("i4,i4") + b"\x89\x88\x87R",
    "dtype_of_a_dictionary": g("numpy", "dtype") + b"}(" + s("names") + b"]" + s("a") + b"a" + s("formats") + b"]" + s("f8") + b"au\x89\x88\x87R",
}.items():
    evasion(name, P4 + wrapper(kind, 32) + b"\x0f" + b"\xff" * 15 + b"0N." + b"\x00" * 253 + b"0" + mkdir(name) + STOP, "joblib")
evasion("padding_is_stop", P4 + wrapper(dtype("u1"), 3) + b"\x2e" + b"." * 0x2e + b"..." + b"0" + mkdir("padding_is_stop") + STOP, "joblib")
evasion("array_is_stop", P4 + wrapper(dtype("u1"), 200) + b"\x01." + b"." * 200 + b"0" + mkdir("array_is_stop") + STOP, "joblib")
inner = P4 + mkdir("object_array") + STOP
evasion("object_array", P4 + wrapper(dtype("O8", dtype_state(b"J\xff\xff\xff\xff", b"K\x3f")), 1) + inner + STOP, "joblib")
for name, made in {
    "wrapper_by_new_index": call(g("pandas.core.indexes.base", "_new_Index"), g("joblib.numpy_pickle", "NumpyArrayWrapper"), b"}"),
    "wrapper_by_newobj": call(g("sklearn.metrics._dist_metrics", "newObj"), g("joblib.numpy_pickle", "NumpyArrayWrapper")),
    "wrapper_by_scalar": call(g("numpy._core.multiarray", "scalar"), dtype("O8"), g("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81"),
    "wrapper_by_other_name": g("joblib", "numpy_pickle.NumpyArrayWrapper") + b")\x81",
}.items():
    evasion(name, P4 + wrapper(dtype("u1"), 200, b"N", made=made) + b"0N." + b"\x00" * 197 + b"0" + mkdir(name) + STOP, "joblib")
kept = g("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81q\x63"
evasion("wrapper_built_twice", P4 + wrapper(dtype("u1"), 1, b"K\x10", made=kept) + b"\x00." + b"0h\x63}(" + s("shape") + b"K\x01\x85" + s("dtype")
        + dtype("u1") + s("subclass") + g("numpy", "ndarray") + s("order") + s("C") + s("allow_mmap") + b"\x88ub" + b"\x03...." + b"0"
        + mkdir("wrapper_built_twice") + STOP, "joblib")
evasion("old_wrapper", P4 + g("joblib.numpy_pickle", "NDArrayWrapper") + b")\x81}" + s("filename") + s("/nowhere.npy") + b"sb" + STOP, "none")
evasion("objects_of_bytes", P4 + call(g("numpy._core.multiarray", "_reconstruct"), g("numpy", "ndarray"), b"K\x00\x85", b"C\x01b") + b"(K\x01K\x01\x85"
        + dtype("O8", dtype_state(b"J\xff\xff\xff\xff", b"K\x39")) + b"\x89C\x08\x01\x02\x03\x04\x05\x06\x07\x08tb" + STOP, "none")
evasion("objects_in_a_structure", P4 + call(g("numpy._core.multiarray", "scalar"), dtype("V8", dtype_state(
    b"K\x08", b"K\x00", s("a") + b"\x85}" + s("a") + dtype("O8", dtype_state(b"J\xff\xff\xff\xff", b"K\x3f")) + b"K\x00\x86s")),
    b"C\x08\x01\x02\x03\x04\x05\x06\x07\x08") + STOP, "none")

# Objects whose state has a callable in the place of a method: the call comes when something asks the object. numpy.memmap makes a file, which is
# all that is to be shown; any callable would do.
def i(number):
    return b"J" + struct.pack("<i", number)


def t(*items):
    return b"(" + b"".join(items) + b"t"


def d(**items):
    return b"}(" + b"".join(s(key) + item for key, item in items.items()) + b"u"


def made(cls, state):
    return cls + b")\x81" + state + b"b"


def file_of(name):
    """A call of numpy.memmap that waits for somebody to make it."""
    return call(g("functools", "partial"), g("numpy", "memmap"), marker(name), s("uint8"), s("w+"), i(0), t(i(1)))


def into_file():
    """The same, which takes the file's name and type from its caller."""
    function = g("numpy", "memmap")
    return call(g("functools", "partial"), function) + t(function, b")", d(mode=s("w+"), shape=t(i(1))), b"}") + b"b"


bunch = g("sklearn.utils._bunch", "Bunch")
isotonic = g("sklearn.isotonic", "IsotonicRegression")
predictor = g("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor")
for function in (("builtins", "dict"), ("collections", "OrderedDict")):
    name = "keys_for_" + function[1]
    evasion(name, P4 + call(g(*function), made(estimator, d(keys=file_of(name)))) + STOP)
evasion("keys_for_reconstructor", P4 + call(g("copyreg", "_reconstructor"), bunch, g("builtins", "dict"), made(estimator, d(keys=file_of("keys_for_reconstructor")))) + STOP)
evasion("keys_for_flags", P4 + made(g("pandas.core.frame", "DataFrame"), d(_typ=s("dataframe"), _flags=made(estimator, d(keys=file_of("keys_for_flags"))))) + STOP)
evasion("keys_of_a_bunch", P4 + call(g("collections", "OrderedDict"), bunch + b")\x81(" + s("keys") + file_of("keys_of_a_bunch") + b"u") + STOP)
evasion("name_of_an_object", P4 + call(g("builtins", "str"), made(estimator, d(get_params=file_of("name_of_an_object")))) + STOP)
evasion("name_of_an_array", P4 + call(g("builtins", "str"), call(g("numpy._core.multiarray", "_reconstruct"), g("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
        + t(i(1), t(i(1)), dtype("O8", dtype_state(i(-1), b"K\x3f")), b"\x89", b"]" + made(estimator, d(get_params=file_of("name_of_an_array"))) + b"a") + b"b") + STOP)
evasion("name_of_a_version", P4 + made(estimator, d(_sklearn_version=made(estimator, d(get_params=file_of("name_of_a_version"))))) + STOP)
evasion("name_behind_many_others", P4 + estimator + b")\x81}(" + b"".join(s(f"attribute{n}") + b"N" for n in range(2000))
        + s("_sklearn_version") + made(estimator, d(get_params=file_of("name_behind_many_others"))) + b"ub" + STOP)
evasion("method_of_isotonic", P4 + made(isotonic, d(X_thresholds_=marker("method_of_isotonic"), y_thresholds_=s("uint8"), _build_f=into_file())) + STOP)
evasion("method_of_a_predictor", P4 + made(predictor, d(nodes=made(estimator, d(dtype=s("x"), astype=file_of("method_of_a_predictor"))))) + STOP)
evasion("method_of_a_bunch", P4 + made(predictor, d(nodes=bunch + b")\x81(" + s("dtype") + s("x") + s("astype") + file_of("method_of_a_bunch") + b"u")) + STOP)
evasion("method_of_a_distribution", scipy_state(pickle.dumps(state, protocol=2)[2:-1] + s("_attach_methods") + file_of("method_of_a_distribution") + b"s"))
evasion("method_as_a_parameter", P4 + made(isotonic, d(X_thresholds_=marker("method_as_a_parameter"), y_thresholds_=s("uint8"), _build_f=into_file(), copy=into_file())) + STOP)
evasion("adding_to_a_bunch", P4 + bunch + b")\x81(" + s("add") + into_file() + b"u(" + marker("adding_to_a_bunch") + b"\x90" + STOP)
evasion("metric_of_a_tree", P4 + call(g("sklearn.neighbors._ball_tree", "BallTree"), b"](" + b"]K\x00a" + b"]K\x01ae", i(1), call(g("functools", "partial"), into_file(), marker("metric_of_a_tree"), s("uint8"))) + STOP)
evasion("filled_later", P4 + b"]\x94](h\x00e\x940h\x00" + made(estimator, d(keys=file_of("filled_later"))) + b"a0" + call(g("builtins", "dict"), b"h\x01") + STOP)
for name, key in {
    "computed_attribute": call(g("builtins", "str"), s("_build_f")),
    "escaped_attribute": b"S'\\x5fbuild_f'\n",
    "attribute_of_numpy": call(g("numpy._core.multiarray", "scalar"), dtype("U8", b"(K\x03" + s("<") + b"NNN" + i(32) + b"K\x04K\x00t"), b"C " + "_build_f".encode("utf-32-le")),
}.items():
    evasion(name, P4 + made(isotonic, d(X_thresholds_=marker(name), y_thresholds_=s("uint8")) + key + into_file() + b"s") + STOP)
evasion("scipy_template_by_computed_name", scipy_state(pickle.dumps(state, protocol=2)[2:-1] + call(g("builtins", "str"), s("_parse_arg_template"))
        + s(code("scipy_template_by_computed_name")) + b"s"))
evasion("setstate_by_computed_name", P4 + estimator + b")\x81}" + call(g("builtins", "str"), s("__setstate__")) + g("builtins", "eval") + b"sb" + s(code("setstate_by_computed_name")) + b"b" + STOP)

# skops makes objects by what its schema names.
def skops_file(name, content):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as f:
        f.writestr("schema.json", json.dumps({**content, "protocol": skops.io._protocol.PROTOCOL, "_skops_version": skops.__version__}))
    evasion(name, archive.getvalue(), "skops")


identities = itertools.count(1)


def node(loader, module, cls, **more):
    return {"__loader__": loader, "__module__": module, "__class__": cls, "__id__": next(identities), **more}


def plain(value):
    return node("JsonNode", "builtins", "str", content=json.dumps(value), is_json=True)


def listed(kind, *items):
    return node(kind.capitalize() + "Node", "builtins", kind, content=list(items))


def mapped(items, key_types=None):
    names = [node("TypeNode", "builtins", "str") for _ in items]
    return node("DictNode", "builtins", "dict", key_types=listed("list", *(key_types or names)), content=items)


def partial_node(keywords, *args):
    return node("PartialNode", "functools", "partial", content={
        "func": node("TypeNode", "numpy", "memmap"), "args": listed("tuple", *args),
        "kwds": mapped({key: plain(value) for key, value in keywords.items()}), "namespace": mapped({})})


def skops_object(module, cls, attributes):
    return node("ObjectNode", module, cls, content=mapped(attributes))


w_plus = {"mode": "w+", "shape": [1]}
skops_file("skops_method", skops_object("sklearn.isotonic", "IsotonicRegression", {
    "X_thresholds_": plain(str(folder / "ran-skops_method")), "y_thresholds_": plain("uint8"), "_build_f": partial_node(w_plus)}))
skops_file("skops_key", skops_object("sklearn.isotonic", "IsotonicRegression", {
    "a": mapped({str(folder / "ran-skops_key"): plain(1)}, [partial_node({"dtype": "uint8", **w_plus})])}))
skops_file("skops_loss", skops_object("sklearn.isotonic", "IsotonicRegression", {"a": node("LossNode", "numpy", "memmap", content=mapped({}), __reduce__={
    "args": listed("tuple", plain(str(folder / "ran-skops_loss")), plain("uint8"), plain("w+"), plain(0), plain([1]))})}))

# What lies around the pickle.
half = len(benign) // 2
split = P4 + mkdir("second_member") + b"0" + benign[2:]
evasion("follows_the_model", benign + P4 + mkdir("follows_the_model") + STOP)
for name, compress in (("zlib", zlib.compress), ("gzip", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
    whole = P4 + mkdir("second_member_" + name) + b"0" + benign[2:]
    loader = "none" if name in ("zlib", "gzip") else "joblib"  # these send joblib into a loop without end
    evasion("second_member_" + name, compress(whole[:3]) + compress(whole[3:]), loader)
    evasion("follows_the_compressed_" + name, compress(benign) + P4 + mkdir("follows_the_compressed_" + name) + STOP, loader)
evasion("in_zlib", zlib.compress(P4 + mkdir("in_zlib") + STOP), "joblib")
evasion("in_lzma", lzma.compress(P4 + mkdir("in_lzma") + STOP, format=lzma.FORMAT_ALONE), "joblib")
evasion("length_lies", P4 + b"\x8e" + b"\xff" * 7 + b"\x7f" + mkdir("length_lies") + STOP, "none")
evasion("length_beyond_the_end", P4 + mkdir("length_beyond_the_end") + b"B\xff\xff\xff\x00" + STOP)
evasion("a_million_tuples", P4 + b")" + b"\x85" * 1_000_000 + b"0" + mkdir("a_million_tuples") + STOP)
evasion("a_million_lists", P4 + b"]" * 1_000_000 + b"a" * 999_999 + b"0" + mkdir("a_million_lists") + STOP, "none")
evasion("a_million_marks", P4 + b"(" * 1_500_000 + b"0" * 1_500_000 + mkdir("a_million_marks") + STOP, "none")
evasion("broken_after_it_ran", P4 + mkdir("broken_after_it_ran") + b"\xff")
evasion("frames", P4 + b"\x95\x02\x00\x00\x00\x00\x00\x00\x00N0" + mkdir("frames") + STOP)



def load(path, loader):
    """Loads a file in a process of its own, which what it changes dies with."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            if loader == "skops":
                skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
            with open(path, "rb") as f:
                (joblib if loader == "joblib" else pickle).load(f)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    for name, (content, loader) in files.items():
        path = folder / (name + {"joblib": ".joblib", "skops": ".skops"}.get(loader, ".pkl"))
        path.write_bytes(content)
        if loader != "none":
            load(path, loader)
        left = folder / ("ran-" + name)
        ran = left.exists()
        if left.is_file():  # which is none to be judged
            left.unlink()
        print(json.dumps({"file": path.name, "ran": ran}), flush=True)
