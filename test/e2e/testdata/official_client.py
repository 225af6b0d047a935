"""Registers the project in ROOT as the stage does that registrar replaces, with the official client: official_client.py ROOT.

MLFLOW_TRACKING_URI says where. Prints the version, its run and its logged model as JSON.
"""

import json
import sys
from pathlib import Path

import joblib
import mlflow
import yaml
from mlflow import MlflowClient

root = Path(sys.argv[1])
config = yaml.safe_load((root / "config" / "config.yaml").read_text())
params = yaml.safe_load((root / "config" / "params.yaml").read_text())
registration = config["model_registration"]
model_name = registration["model_name"]
model_path = root / registration["model_path"]

mlflow.set_experiment(config["model_evaluation"]["experiment_name"])
model = joblib.load(model_path)
with mlflow.start_run(run_name="Model_Registration_Stage"):
    mlflow.log_metrics(json.loads((root / registration["metric_file_name"]).read_text()))
    mlflow.log_params(
        {
            "model_name": model_name,
            "model_file": model_path.name,
            "min_roc_auc": params["registration_params"]["min_roc_auc"],
        }
        | model.get_params()  # as MLflow's autologging does
    )
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        registered_model_name=model_name,
        serialization_format="pickle",
        extra_files=[str(root / extra) for extra in registration["extra_files"]],
    )

client = MlflowClient()
version = logged.registered_model_version
client.transition_model_version_stage(model_name, version, "Staging")
client.set_registered_model_alias(model_name, "staging", version)
print(json.dumps({"version": str(version), "run_id": logged.run_id, "model_id": logged.model_id}))
