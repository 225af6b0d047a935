"""Fits models of every kind and saves each in every way that a pipeline might: make.py FOLDER NAME ...

The names are those of models, or `sample`, or `all`. Writes FOLDER/models/<name>/<way>, what each model answers into
FOLDER/models/<name>/answer, what Python says of each into FOLDER/expected.json, and the packages' versions into FOLDER/versions.json. An estimator
that cannot be fitted here is listed with the reason.
"""

import json
import pickle
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import scipy.sparse
import scipy.stats
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances

from told import globals_of, told

warnings.simplefilter("ignore")

random = np.random.RandomState(3)
ROWS = 80
X = random.rand(ROWS, 4)
binary = (X[:, 0] + X[:, 1] > 1).astype(int)
multi = np.digitize(X[:, 0], [0.3, 0.6])
target = X @ [1.0, 2.0, -1.0, 0.5] + 5
strings = np.where(binary == 1, "good", "bad")
frame = pd.DataFrame(X, columns=["income", "amount", "age of the loan", "rate"])
mixed = frame.assign(
    home=random.choice(["rent", "own", "mortgage"], ROWS),
    purpose=random.choice(["car", "house"], ROWS),
    grade=pd.Categorical(random.choice(list("ABC"), ROWS)),
    dependants=random.randint(0, 4, ROWS),
)
mixed.loc[::7, "income"] = np.nan
missing = pd.DataFrame({"home": np.where(X[:, 1] > 0.5, "own", "rent"), "grade": np.where(binary == 1, "A", None)})
NUMERIC, STRINGS = ["income", "amount", "age of the loan", "rate", "dependants"], ["home", "purpose"]
texts = ["a good loan", "a bad one", "no loan at all", "good and bad"] * 20
both = np.column_stack([binary, multi])

# What fits where, tried in this order.
DATA = {
    "classes": (X, multi),
    "two classes": (X, binary),
    "numbers": (X, target),
    "several numbers": (X, np.column_stack([target, target**2])),
    "several classes": (X, np.column_stack([binary, 1 - binary])),
    "counts": (np.round(X * 5), multi),
    "one column": (X[:, 0], target),
    "labels": (strings, None),
    "label sets": ([["a"], ["a", "b"]] * 40, None),
    "texts": (texts, None),
    "a kernel": (X @ X.T, multi),
    "three columns": (X[:, :3], multi),
    "pictures": (random.rand(10, 20, 20), None),
    "records": ([{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}] * 40, None),
}

# One of each kind that was hard once.
SAMPLE = {
    "columns with strings", "passthrough", "passthrough of columns", "categories", "labels of objects", "stacked", "random search",
    "search of integers", "many outputs", "numpy functions", "text", "ball tree", "own random state", "nested", "BisectingKMeans", "DBSCAN",
    "FrozenEstimator", "GradientBoostingRegressor", "KNeighborsClassifier", "SelectFromModel", "TransformedTargetRegressor",
}

# What a model is asked, the first that it has; some tell only what they found when they were fitted.
ANSWERS = ["predict_proba", "decision_function", "predict", "transform", "score_samples", "kneighbors"]
FOUND = ["labels_", "embedding_", "covariance_", "negative_outlier_factor_", "row_labels_"]


def columns():
    return ColumnTransformer(
        [
            ("numeric", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMERIC),
            ("strings", OneHotEncoder(handle_unknown="ignore"), STRINGS),
        ]
    )


def pipelines():
    """Typical models, each with the rows that it is fitted on."""
    forest = RandomForestClassifier(n_estimators=5, random_state=1)
    logistic = LogisticRegression()
    searched = {"C": scipy.stats.loguniform(1e-2, 1e2), "max_iter": scipy.stats.randint(50, 200)}
    integers = {"max_depth": scipy.stats.randint(1, 5), "min_samples_leaf": scipy.stats.binom(5, 0.5)}
    return {
        "columns with strings": (Pipeline([("columns", columns()), ("forest", forest)]), mixed, strings),
        "categories": (HistGradientBoostingClassifier(max_iter=5), mixed[["income", "grade"]], strings),
        "ordinal": (make_pipeline(OrdinalEncoder(), RandomForestRegressor(n_estimators=3)), mixed[STRINGS], target),
        "named columns": (forest, frame, binary),
        "labels of objects": (LogisticRegression(), frame, strings.astype(object)),
        "labels true and false": (LogisticRegression(), X, binary == 1),
        "calibrated": (CalibratedClassifierCV(SVC(), cv=3), X, binary),
        "calibrated isotonic": (CalibratedClassifierCV(forest, method="isotonic", cv=3), X, binary),
        "stacked": (StackingClassifier([("forest", forest), ("svm", SVC(probability=False))], cv=3), X, multi),
        "voting": (VotingClassifier([("forest", forest), ("logistic", logistic)], voting="soft"), X, strings),
        "grid search": (GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 10]}, cv=3), frame, binary),
        "random search": (RandomizedSearchCV(logistic, searched, n_iter=3, cv=3, random_state=1), X, binary),
        "many outputs": (MultiOutputClassifier(forest), X, both),
        "chain": (ClassifierChain(logistic), X, np.column_stack([binary, 1 - binary])),
        "numpy function": (make_pipeline(FunctionTransformer(np.log1p), Ridge()), X, target),
        "transformed target": (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), X, target),
        "text": (make_pipeline(TfidfVectorizer(), SGDClassifier()), texts, np.array([1, 0, 0, 1] * 20)),
        "union": (
            make_pipeline(
                FeatureUnion([("scaled", StandardScaler()), ("best", SelectKBest(f_classif, k=2))]),
                GradientBoostingClassifier(n_estimators=5),
            ),
            X,
            multi,
        ),
        "pandas output": (make_pipeline(StandardScaler(), logistic).set_output(transform="pandas"), frame, binary),
        "passthrough": (Pipeline([("none", "passthrough"), ("dummy", DummyClassifier())]), X, binary),
        "weighted labels": (RandomForestClassifier(n_estimators=2, class_weight={"good": 1, "bad": 2.5}), frame, strings),
        "missing strings": (make_pipeline(OneHotEncoder(handle_unknown="ignore"), forest), missing, binary),
        "missing numbers": (make_pipeline(SimpleImputer(missing_values=np.nan), Ridge()), X, target),
        "passthrough of columns": (
            make_pipeline(ColumnTransformer([("own", OneHotEncoder(), ["home"])], remainder="passthrough"), forest),
            mixed[["home", "dependants"]],
            binary,
        ),
        "two outputs": (RandomForestClassifier(n_estimators=2), X, both),
        "search of integers": (
            RandomizedSearchCV(
                DecisionTreeClassifier(), integers, n_iter=3, cv=3, random_state=np.random.RandomState(0), error_score=0
            ),
            X,
            binary,
        ),
        "search by two scores": (
            GridSearchCV(SVC(), {"kernel": ["rbf", "linear"]}, cv=3, scoring=["roc_auc", "accuracy"], refit="roc_auc"),
            frame,
            binary,
        ),
        "own scorer": (GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3, scoring=make_scorer(mean_squared_error)), X, target),
        "numpy functions": (
            make_pipeline(FunctionTransformer(np.log1p, inverse_func=np.expm1, kw_args={"where": True}), Ridge()),
            X,
            target,
        ),
        "kd tree": (KNeighborsClassifier(algorithm="kd_tree"), X, binary),
        "ball tree": (KNeighborsClassifier(metric="haversine", algorithm="ball_tree"), X[:, :2], binary),
        "sparse": (SVC(), scipy.sparse.csr_matrix(X), binary),
        "own random state": (ExtraTreesClassifier(2, random_state=np.random.RandomState(1)), X, binary),
        "components": (make_pipeline(PCA(0.9), LogisticRegression()), X, binary),
        "nested": (Pipeline([("outer", Pipeline([("inner", columns())])), ("forest", forest)]), mixed, binary),
    }


def save(model, folder):
    """The ways in which pipelines save models, and the name of each file."""
    joblib.dump(model, folder / "joblib")
    joblib.dump(model, folder / "joblib-protocol-2", protocol=2)
    joblib.dump(model, folder / "joblib-zlib", compress=3)
    joblib.dump(model, folder / "joblib-lz4", compress=("lz4", 3))
    joblib.dump(model, folder / "joblib-xz", compress=("xz", 3))
    for protocol in (0, 2, 3, 4, 5):
        (folder / f"pickle-{protocol}").write_bytes(pickle.dumps(model, protocol=protocol))
    (folder / "cloudpickle").write_bytes(cloudpickle.dumps(model))
    try:
        skops.io.dump(model, folder / "skops")
        skops.io.load(folder / "skops", trusted=skops.io.get_untrusted_types(file=folder / "skops"))
    except Exception:
        (folder / "skops").unlink(missing_ok=True)  # skops does not save or load every model


def answer(model, rows):
    for method in ANSWERS:
        if hasattr(model, method):
            try:
                return method, getattr(model, method)(rows)
            except Exception:
                continue
    for found in FOUND:
        if hasattr(model, found):
            return found, getattr(model, found)
    return "", None


def fitted():
    """Every estimator of scikit-learn, and typical models: name, model and rows, or name and why not."""
    for name, (model, rows, labels) in pipelines().items():
        if wanted(name):
            yield name, model.fit(rows, labels), rows
    for name, estimator in all_estimators():
        if not wanted(name):
            continue
        for number, instance in enumerate(instances(estimator), 1):
            rows, why = fit(instance)
            yield name if number == 1 else f"{name} {number}", None if why else instance, why or rows


def instances(estimator):
    """The instances that scikit-learn's own tests fit."""
    if estimator is FrozenEstimator:  # they have none of it
        return [FrozenEstimator(LogisticRegression().fit(X, binary))]
    return list(_construct_instances(estimator))


def fit(instance):
    """Fits an estimator to the first data that it takes, and gives its rows; or why it takes none, the first reason."""
    if hasattr(instance, "random_state"):
        instance.random_state = 1
    reasons = []
    for rows, labels in DATA.values():
        try:
            instance.fit(rows) if labels is None else instance.fit(rows, labels)
        except Exception as error:
            reasons.append(str(error))
            continue
        if answer(instance, rows)[0]:
            return rows, ""
        reasons.append("it is fitted, and has nothing to say")
    return None, reasons[0] or "it cannot be fitted"


def wanted(name):
    names = set(sys.argv[2:])
    return bool(names & {name, "all"}) or "sample" in names and name in SAMPLE


def main():
    folder = Path(sys.argv[1])
    expected = []
    for name, model, rows in fitted():
        if model is None:
            expected.append({"name": name, "why_not": rows})
            continue
        home = folder / "models" / name
        home.mkdir(parents=True)
        save(model, home)
        # Not the fitted model's own answer: of some, the last bits change once numpy lays their arrays anew.
        method, said = answer(pickle.loads(pickle.dumps(model)), rows)
        joblib.dump({"rows": rows, "method": method, "answer": said}, home / "answer")
        ways = sorted(path.name for path in home.iterdir() if path.name != "answer")
        globals_by_way = {way: globals_of(home / way) for way in ways if way != "skops"}
        expected.append({"name": name, "ways": ways, "globals": globals_by_way, "told": told(model)})
    (folder / "expected.json").write_text(json.dumps(expected))
    packages = ["scikit-learn", "numpy", "pandas", "joblib", "cloudpickle", "skops", "mlflow"]
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    (folder / "versions.json").write_text(json.dumps(versions))


main()
