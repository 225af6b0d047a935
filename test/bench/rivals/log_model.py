"""The Python stage that registrar replaces: judges the metrics, and lets MLflow's own client do the rest."""

import json
import pathlib
import sys

import joblib
import mlflow
import mlflow.sklearn

model_path, metrics_path, name = sys.argv[1:]
metrics = json.loads(pathlib.Path(metrics_path).read_text())
if metrics["roc_auc"] < 0.6:
    sys.exit("the model is refused")
model = joblib.load(model_path)
mlflow.set_experiment("bench")
with mlflow.start_run(run_name="Model_Registration_Stage"):
    mlflow.log_param("model_name", name)
    mlflow.log_metrics(metrics)
    # skops, the default since MLflow 3.17, refuses every random forest.
    mlflow.sklearn.log_model(model, name="model", serialization_format="cloudpickle", registered_model_name=name)
