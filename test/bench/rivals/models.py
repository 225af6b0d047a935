"""Makes the models that are registered: random forests of about 275 kB and 16 MB, one that carries an array of --large-bytes,
and a compressed one that carries a fifth of that."""

import argparse
import pathlib

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--into", type=pathlib.Path, required=True)
parser.add_argument("--large-bytes", type=int, required=True)
args = parser.parse_args()

X, y = make_classification(n_samples=4000, n_features=20, n_informative=12, flip_y=0.2, random_state=1)


def forest(trees, depth):
    return RandomForestClassifier(n_estimators=trees, max_depth=depth, random_state=1, n_jobs=2).fit(X, y)


joblib.dump(forest(27, 6), args.into / "small.joblib")
joblib.dump(forest(190, None), args.into / "medium.joblib")
large = forest(5, 3)
large.lookup_table_ = np.zeros(args.large_bytes, dtype=np.uint8)  # pages that nobody wrote to take no memory
joblib.dump(large, args.into / "large.joblib")
compressed = forest(5, 3)
compressed.lookup_table_ = np.random.default_rng(1).integers(0, 64, args.large_bytes // 5, dtype=np.uint8)  # of which zlib saves a quarter
joblib.dump(compressed, args.into / "compressed.joblib", compress=3)
