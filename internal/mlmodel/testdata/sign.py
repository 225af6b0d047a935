"""What mlflow.pyfunc makes of inputs under each signature: sign.py make FOLDER, then sign.py ask FOLDER.

Asked, it prints for each model and input that scikit-learn itself takes what mlflow.pyfunc does with it under each signature, as JSON.
"""

import json
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import scipy.sparse
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

warnings.simplefilter("ignore")

folder = Path(sys.argv[2])
random = np.random.RandomState(5)
numbers = pd.DataFrame(random.rand(60, 3), columns=["income", "amount", "age"])
mixed = numbers.assign(home=random.choice(["rent", "own"], 60), default=random.rand(60) > 0.5)
graded = numbers[["income"]].assign(grade=pd.Categorical(random.choice(list("AB"), 60)))
labels = np.where(numbers["income"] > 0.5, "good", "bad")
INPUTS = {
    "mixed": {
        "floats and strings": mixed,
        "integers": mixed.assign(income=range(60), amount=1),
        "integers of 32 bits": mixed.assign(income=np.arange(60, dtype="int32")),
        "floats of 32 bits": mixed.assign(income=mixed["income"].astype("float32")),
        "missing numbers": mixed.assign(income=np.where(mixed["age"] > 0.5, np.nan, mixed["income"])),
        "missing strings": mixed.assign(home=np.where(mixed["age"] > 0.5, None, mixed["home"])),
        "another index": mixed.set_index(pd.Index(range(100, 160))),
        "one row": mixed.head(1),
    },
    "named": {
        "floats": numbers,
        "integers": (numbers * 10).astype(int),
        "missing numbers": numbers.where(numbers > 0.2),
        "an array": numbers.to_numpy(),
        "a sparse matrix": scipy.sparse.csr_matrix(numbers.to_numpy()),
    },
    "categories": {"a category": graded},
    "unnamed": {
        "floats": numbers,
        "an array": numbers.to_numpy(),
        "an array of integers": (numbers * 10).astype(int).to_numpy(),
        "a sparse matrix": scipy.sparse.csr_matrix(numbers.to_numpy()),
    },
}


def make():
    columns = make_column_transformer(
        (SimpleImputer(), ["income", "amount", "age"]), (OneHotEncoder(handle_unknown="ignore"), ["home"]), remainder="passthrough"
    )
    forest = RandomForestClassifier(n_estimators=3, random_state=1)
    joblib.dump(make_pipeline(columns, forest).fit(mixed, labels), folder / "mixed")
    joblib.dump(RandomForestClassifier(n_estimators=3, random_state=1).fit(numbers, labels), folder / "named")
    joblib.dump(HistGradientBoostingClassifier(max_iter=3).fit(graded, labels), folder / "categories")
    joblib.dump(RandomForestClassifier(n_estimators=3, random_state=1).fit(numbers.to_numpy(), labels), folder / "unnamed")


def ask():
    import mlflow

    found = {}
    for name, inputs in INPUTS.items():
        native = joblib.load(folder / name)
        loaded = {path.name: mlflow.pyfunc.load_model(str(path)) for path in (folder / "packed" / name).iterdir()}
        for kind, rows in inputs.items():
            expected = native.predict(rows)
            said = found.setdefault(name, {}).setdefault(kind, {})
            for signature, generic in loaded.items():
                try:
                    said[signature] = "equal" if generic.predict(rows).tolist() == expected.tolist() else "DIFFERENT"
                except Exception:
                    said[signature] = "refused"
    print(json.dumps(found))


{"make": make, "ask": ask}[sys.argv[1]]()
