"""Writes forest.skops beside it. Run by hand: python make_skops.py (scikit-learn, skops)."""

import zipfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

rows = np.random.RandomState(0).rand(60, 3)
model = make_pipeline(FunctionTransformer(np.log1p), RandomForestClassifier(n_estimators=2, max_depth=2, random_state=0))
model.fit(rows, rows.sum(1) > 1.5)
skops.io.dump(model, Path(__file__).parent / "forest.skops", compression=zipfile.ZIP_DEFLATED, compresslevel=9)
