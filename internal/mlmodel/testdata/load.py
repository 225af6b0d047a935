"""Loads each packed model below FOLDER/packed as MLflow's users do, and compares to the last bit: load.py FOLDER."""

import sys
import warnings
from pathlib import Path

import joblib
import mlflow
import yaml

folder = Path(sys.argv[1])
rows, expected = joblib.load(folder / "rows"), joblib.load(folder / "expected")
warnings.simplefilter("ignore")

for packed in sorted((folder / "packed").iterdir()):
    want = expected["own" if packed.name.startswith("cloudpickle") else "model"]
    native = mlflow.sklearn.load_model(str(packed))
    assert native.predict_proba(rows).tobytes() == want.tobytes(), packed
    generic = mlflow.pyfunc.load_model(str(packed))
    got = generic.predict(rows)
    predict_fn = yaml.safe_load((packed / "MLmodel").read_text())["flavors"]["python_function"]["predict_fn"]
    if predict_fn == "predict_proba":
        assert got.tobytes() == want.tobytes(), packed
    else:
        assert got.tobytes() == native.predict(rows).tobytes(), packed
    # Another download of the model must not be loaded from the first one's folder, which may be gone by then.
    moved = packed.rename(packed.with_suffix(".moved"))
    assert mlflow.sklearn.load_model(str(moved)).predict_proba(rows).tobytes() == want.tobytes(), packed
    packed = moved.rename(packed)
    # What builds environments (mlflow models serve, build-docker) reads these.
    mlflow.pyfunc.get_model_dependencies(str(packed), format="pip")
    from mlflow.utils.environment import _PythonEnv

    _PythonEnv.from_yaml(packed / "python_env.yaml")
    _PythonEnv.from_conda_yaml(packed / "conda.yaml")
    print(packed.name)
