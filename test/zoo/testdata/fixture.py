"""Writes small models with the versions that are installed, and what Python says of them: fixture.py FOLDER. `make fixtures` runs it with many."""

import json
import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import sklearn
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from told import globals_of, told

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)

frame = pd.DataFrame({"income": [1.0, 2.0, 3.0, 4.0] * 5, "home": ["rent", "own"] * 10})
model = make_pipeline(
    make_column_transformer((StandardScaler(), ["income"]), (OneHotEncoder(), ["home"])),
    RandomForestClassifier(n_estimators=2, max_depth=2, random_state=0),
).fit(frame, np.array(["bad", "good"] * 10))

joblib.dump(model, folder / "model.joblib")
joblib.dump(model, folder / "zlib.joblib", compress=3)
(folder / "model.pkl").write_bytes(pickle.dumps(model, protocol=4))

ways = ["model.joblib", "zlib.joblib", "model.pkl"]
versions = {"scikit-learn": sklearn.__version__, "joblib": joblib.__version__, "numpy": np.__version__, "pandas": pd.__version__}
said = {"versions": versions, "ways": ways, "globals": {way: globals_of(folder / way) for way in ways}, "told": told(model)}
(folder / "expected.json").write_text(json.dumps(said, indent=2) + "\n")
