"""Packs FOLDER/protocol4.pkl with the official client: official.py FOLDER.

Writes FOLDER/official, as mlflow.sklearn.log_model would upload it, and prints the versions here as JSON.
"""

import json
import pickle
import sys
from importlib.metadata import distributions
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

folder = Path(sys.argv[1])
model_id = "m-" + "2" * 32
mlflow.sklearn.save_model(
    pickle.loads((folder / "protocol4.pkl").read_bytes()),
    folder / "official",
    mlflow_model=Model(
        artifact_path=f"mlflow-artifacts:/1/models/{model_id}/artifacts",
        run_id="1" * 32,
        model_id=model_id,
        model_uuid=model_id,
    ),
    serialization_format="pickle",
    signature=ModelSignature(outputs=Schema([TensorSpec(np.dtype("bool"), (-1,))])),
    extra_files=[str(folder / "rows")],
)

# lz4 because joblib imports it where it is installed, whether or not the model needs it; pip and setuptools are
# missing from an environment that uv made.
packages = {"lz4", "mlflow", "numpy", "pandas", "pip", "scikit-learn", "scipy", "setuptools"}
versions = {found.name: found.version for found in distributions() if found.name in packages}
python = ".".join(map(str, sys.version_info[:3]))
print(json.dumps({"python": python} | versions))
