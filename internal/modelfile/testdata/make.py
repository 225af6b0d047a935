"""Writes the model files beside it. Run by hand: python make.py (scikit-learn, joblib, cloudpickle, lz4)."""

import pickle
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

here = Path(__file__).parent

rows = np.random.RandomState(0).rand(60, 3)
forest = RandomForestClassifier(n_estimators=2, max_depth=2, random_state=0).fit(rows, rows.sum(1) > 1.5)

# Object arrays are a pickle within the pickle; "grade" is an array of strings.
raw = np.array([["rent", "A"], ["own", "B"], [None, "A"], ["own", "C"]], dtype=object)
encoded = make_pipeline(OneHotEncoder(), RandomForestClassifier(n_estimators=1, max_depth=1, random_state=0))
encoded.fit(raw, np.array(["good", "bad", "good", "bad"]))

joblib.dump(forest, here / "forest.joblib")
joblib.dump(encoded, here / "pipeline.joblib")
for method in ["zlib", "gzip", "bz2", "lzma", "xz", "lz4"]:
    joblib.dump(forest, here / f"forest.{method}.joblib", compress=(method, 3))
for protocol in range(6):
    joblib.dump(encoded, here / f"pipeline.protocol{protocol}.joblib", protocol=protocol)
    (here / f"forest.protocol{protocol}.pkl").write_bytes(pickle.dumps(forest, protocol=protocol))


class Scaled(RandomForestClassifier):
    """A class of the user's own, which cloudpickle writes by value."""


Scaled.__module__ = "__main__"
(here / "own_class.cloudpickle.pkl").write_bytes(cloudpickle.dumps(Scaled(n_estimators=1).fit(rows, rows.sum(1) > 1.5)))
