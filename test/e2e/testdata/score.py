"""Scores raw rows with the files that a project trained, which the registered version is compared with."""

import json
import sys
from pathlib import Path

import joblib
import pandas as pd

root, rows = Path(sys.argv[1]), json.load(sys.stdin)["rows"]
preprocessor = joblib.load(root / "artifacts/data_transformation/preprocessor.pkl")
model = joblib.load(root / "artifacts/model_trainer/acras_rf_model.joblib")
frame = pd.DataFrame(rows, columns=preprocessor.feature_names_in_)
features = preprocessor.transform(frame.where(frame.notna(), float("nan")))
json.dump(model.predict_proba(features)[:, 1].tolist(), sys.stdout)
