"""Trains a small model and saves it in every way that a pipeline might, with its predictions: train.py FOLDER.

Prints the version of scikit-learn.
"""

import pickle
import sys
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import sklearn
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

folder = Path(sys.argv[1])
random = np.random.RandomState(7)
rows = np.empty((200, 3), dtype=object)
rows[:, 0], rows[:, 1] = random.rand(200), random.rand(200)
rows[:, 2] = random.choice(["rent", "own"], 200)
bad = rows[:, 0] + rows[:, 1] > 1
model = make_pipeline(
    make_column_transformer((OneHotEncoder(), [2]), remainder="passthrough"),
    RandomForestClassifier(n_estimators=20, random_state=7),
).fit(rows, bad)

joblib.dump(model, folder / "plain.joblib")
joblib.dump(model, folder / "compressed.joblib", compress=3)
for method in ["lz4", "xz", "lzma", "gzip", "bz2"]:
    joblib.dump(model, folder / f"{method}.joblib", compress=(method, 3))
for protocol in range(2, 6):
    (folder / f"protocol{protocol}.pkl").write_bytes(pickle.dumps(model, protocol=protocol))


def cut(rows):
    return rows[:, :2].astype(float)


own = make_pipeline(FunctionTransformer(cut), RandomForestClassifier(n_estimators=5, random_state=7)).fit(rows, bad)
(folder / "cloudpickle.pkl").write_bytes(cloudpickle.dumps(own))

joblib.dump(rows, folder / "rows")
joblib.dump({"model": model.predict_proba(rows), "own": own.predict_proba(rows)}, folder / "expected")
print(sklearn.__version__)
