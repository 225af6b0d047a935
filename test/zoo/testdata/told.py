"""What Python says of a fitted model, and of a file: what the reader of model files is held against."""

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from unittest import mock

import joblib
import numpy as np
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.pipeline import Pipeline


def told(model):
    """What Python says of a model."""
    said = {"root_class": qualified(model), "steps": []}
    if isinstance(model, Pipeline):
        said["steps"] = [
            {"name": name, "class": "" if isinstance(step, str) or step is None else qualified(step)}
            for name, step in model.steps
        ]
    said["sklearn_version"] = model.__getstate__().get("_sklearn_version", "")
    said["n_features_in"] = attribute(model, "n_features_in_", 0)
    said["feature_names_in"] = list(attribute(model, "feature_names_in_", []))
    classes = attribute(model, "classes_", None)
    if isinstance(classes, np.ndarray) and classes.ndim == 1:
        said["classes"] = [repr(label) for label in classes.tolist()]
        said["classes_type"] = "str" if classes.dtype.kind == "U" else classes.dtype.name
    said["params"] = {key: plain(value) for key, value in model.get_params(deep=True).items() if is_plain(value)}
    return said


def attribute(model, name, otherwise):
    try:
        return getattr(model, name)
    except Exception:
        return otherwise


def qualified(thing):
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def is_plain(value):
    """Says whether Python's repr of a value is what the reader writes too."""
    if isinstance(value, (np.number, np.bool_)):
        return True
    if isinstance(value, (list, tuple)):
        return all(is_plain(item) and not isinstance(item, np.generic) for item in value)
    if isinstance(value, dict):
        return all(is_plain(item) and not isinstance(item, np.generic) for pair in value.items() for item in pair)
    return value is None or isinstance(value, (bool, int, float, str))


def plain(value):
    return repr(value.item() if isinstance(value, (np.number, np.bool_)) else value)


def globals_of(path):
    """What a file names, seen by Python's own unpickler while it loads the file."""
    seen = set()

    class Recording:
        def find_class(self, module, name):
            if self.proto < 3:  # names of Python 2, which find_class makes today's of
                if (module, name) in NAME_MAPPING:
                    module, name = NAME_MAPPING[module, name]
                else:
                    module = IMPORT_MAPPING.get(module, module)
            seen.add(f"{module}:{name}" if "." in name else f"{module}.{name}")
            return super().find_class(module, name)

    class Outer(Recording, NumpyUnpickler):
        pass

    class Inner(Recording, pickle._Unpickler):  # of an array of objects, which joblib before 1.6 leaves to pickle.load
        pass

    with mock.patch("joblib.numpy_pickle.NumpyUnpickler", Outer), mock.patch("pickle.load", lambda file: Inner(file).load()):
        joblib.load(path)
    return sorted(seen)
