"""Models of other kinds than the example's: kinds.py train ROOT KIND puts one in the place of the project's model, kinds.py load URI ROOT loads
the registered one back in each way and compares what it answers to the last bit.
"""

import sys
import warnings
from pathlib import Path

import cloudpickle
import joblib
import mlflow
import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

warnings.simplefilter("ignore")

random = np.random.RandomState(11)
rows = pd.DataFrame({"income": random.rand(50), "home": random.choice(["rent", "own"], 50)})
labels = np.where(rows["income"] > 0.5, "good", "bad")
SAVE = {
    "joblib": joblib.dump,
    "cloudpickle": lambda model, path: path.write_bytes(cloudpickle.dumps(model)),
    "skops": skops.io.dump,
}


def train(root, kind):
    columns = make_column_transformer((StandardScaler(), ["income"]), (OneHotEncoder(), ["home"]))
    model = make_pipeline(columns, RandomForestClassifier(n_estimators=5, random_state=1)).fit(rows, labels)
    SAVE[kind](model, root / "artifacts" / "model_trainer" / "acras_rf_model.joblib")
    joblib.dump(model.predict_proba(rows), root / "expected")


def load(uri, root):
    native, expected = mlflow.sklearn.load_model(uri), joblib.load(Path(root) / "expected")
    assert native.predict_proba(rows).tobytes() == expected.tobytes()
    generic = mlflow.pyfunc.load_model(uri)
    turned = rows[["home", "income"]].assign(more=1) if generic.metadata.get_input_schema() else rows
    assert generic.predict(turned).tolist() == native.predict(rows).tolist()
    print("equal to the last bit")


if sys.argv[1] == "train":
    train(Path(sys.argv[2]), sys.argv[3])
else:
    load(*sys.argv[2:])
