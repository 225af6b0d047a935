"""Loads the registered model as every consumer does, and scores held-out applications with it.

Raw applications go through the preprocessor that was registered beside the model. Each way to load the version has to
give what the trained model file gives, to the last bit. Exit code 1 where one does not.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import joblib
import mlflow
import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient

TARGET = "loan_status"
SHOWN = 5


def main() -> int:
    arguments = parse_arguments()
    root = arguments.root
    config = yaml.safe_load((root / "config" / "config.yaml").read_text())
    if arguments.tracking_uri:
        mlflow.set_tracking_uri(arguments.tracking_uri)
    name = arguments.model_name or config["model_registration"]["model_name"]
    version = MlflowClient().get_latest_versions(name, stages=["Staging"])[0].version

    raw = pd.read_csv(root / config["data_ingestion"]["test_data_path"]).drop(columns=TARGET)
    features = registered_preprocessor(f"models:/{name}/{version}").transform(raw)
    trained = joblib.load(root / config["model_trainer"]["model_path"])
    expected, probabilities = trained.predict(features), trained.predict_proba(features)
    predict_fn = config["model_registration"].get("predict_fn", "predict")
    served = probabilities if predict_fn == "predict_proba" else expected

    print(f"{name} version {version} from {mlflow.get_tracking_uri()}, {len(raw)} held-out applications")
    equal = True
    for reference in (f"models:/{name}/{version}", f"models:/{name}/Staging", f"models:/{name}@staging"):
        sklearn_model = mlflow.sklearn.load_model(reference)
        checks = {
            "sklearn predict": same(sklearn_model.predict(features), expected),
            "sklearn predict_proba": same(sklearn_model.predict_proba(features), probabilities),
            f"pyfunc {predict_fn}": same(mlflow.pyfunc.load_model(reference).predict(features), served),
        }
        for check, is_same in checks.items():
            print(f"  {reference:<40} {check:<22} {'equal to the last bit' if is_same else 'DIFFERENT'}")
            equal = equal and is_same

    print(f"\n  the first {SHOWN} of them:")
    table = raw[["person_income", "loan_amnt", "loan_intent", "loan_grade"]].head(SHOWN).copy()
    table["default probability"] = probabilities[:SHOWN, 1].round(3)
    table["decision"] = np.where(expected[:SHOWN] == 1, "refuse", "grant")
    print("\n".join("  " + line for line in table.to_string(index=False).splitlines()))
    if not equal:
        print("the registered model does not answer as the trained one does", file=sys.stderr)
    return 0 if equal else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).parent, help="project root (default: the folder of this script)"
    )
    parser.add_argument("--tracking-uri", help="MLflow server (default: MLFLOW_TRACKING_URI)")
    parser.add_argument("--model-name", help="registered model (default: model_registration.model_name)")
    return parser.parse_args()


def registered_preprocessor(reference: str):
    """The preprocessor that lies beside the model in the registry: model and preprocessor belong together."""
    with tempfile.TemporaryDirectory() as folder:
        mlflow.artifacts.download_artifacts(f"{reference}/extra_files/preprocessor.pkl", dst_path=folder)
        (path,) = Path(folder).rglob("preprocessor.pkl")
        return joblib.load(path)


def same(answer: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bytes and not only equal numbers: -0.0 and 0.0 differ, NaN equals itself."""
    return answer.dtype == expected.dtype and answer.shape == expected.shape and answer.tobytes() == expected.tobytes()


if __name__ == "__main__":
    sys.exit(main())
