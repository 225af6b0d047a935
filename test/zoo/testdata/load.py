"""Loads models as MLflow's users do, and compares what each answers with what the fitted one did: load.py FOLDER.

FOLDER/places.json lists them: the model's name, how it was saved, and the URI of a folder or of a registered version. Prints a JSON object: for
each URI what is wrong, empty where nothing is.
"""

import json
import sys
import warnings
from pathlib import Path

import joblib
import mlflow
import numpy as np
import pandas as pd
import scipy.sparse

warnings.simplefilter("ignore")

folder = Path(sys.argv[1])

# pyfunc costs more than all else, so it loads one of each layout and serialization format, and all that is registered.
GENERIC = {"joblib", "joblib, wrapper", "joblib, hybrid", "pickle-5", "cloudpickle", "skops"}


def ask(model, method, rows):
    said = getattr(model, method)
    return said(rows) if callable(said) else said


def equal(one, other):
    """To the last bit, and of the same type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if scipy.sparse.issparse(one):
        return equal(one.toarray(), other.toarray())
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and (one.tolist() == other.tolist() if one.dtype.hasobject else one.tobytes() == other.tobytes())
    return one == other


def problem(place, known):
    uri = place["uri"]
    native = mlflow.sklearn.load_model(uri)
    if not equal(ask(native, known["method"], known["rows"]), known["answer"]):
        return f"sklearn: {known['method']} differs"
    if place["way"] not in GENERIC and not place["version"]:
        return ""
    generic = mlflow.pyfunc.load_model(uri)
    rows = known["rows"]
    if not hasattr(native, "predict") or not isinstance(rows, (np.ndarray, pd.DataFrame)):
        return ""  # pyfunc calls predict alone, and takes no lists of texts
    expected, said = native.predict(rows), generic.predict(rows)
    if not equal(said, expected):
        return "pyfunc: predict differs"
    return unsigned(generic.metadata.signature, said)


def unsigned(signature, said):
    """What the signature claims of the outputs, held against them."""
    if signature is None:
        return ""
    (claimed,) = signature.outputs.inputs
    dtype = np.dtype(str) if said.dtype.kind == "U" else said.dtype
    if np.dtype(claimed.type) != dtype or claimed.shape != (-1, *said.shape[1:]):
        return f"signature: claims {claimed}, and it is {said.dtype} of {said.shape}"
    return ""


found, path = {}, list(sys.path)
for place in json.loads((folder / "places.json").read_text()):
    try:
        found[place["uri"]] = problem(place, joblib.load(folder / "models" / place["model"] / "answer"))
    except Exception as error:
        found[place["uri"]] = f"{type(error).__name__}: {error}"
    sys.path[:] = path  # MLflow leaves each model's code/ there, and a thousand of them make each import slow
print(json.dumps(found))
