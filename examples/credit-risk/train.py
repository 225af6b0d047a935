"""The stages of the ACRAS pipeline before the registration, in small: data, preprocessor, model and metrics.

The data is made up: loan applications with numbers, categories and gaps, and a default that depends on them with noise.
The same seed gives the same bytes in every file.
"""

import argparse
import importlib.metadata
import json
import platform
import shutil
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TARGET = "loan_status"
NUMERIC = [
    "person_age",
    "person_income",
    "person_emp_length",
    "loan_amnt",
    "loan_int_rate",
    "loan_percent_income",
    "cb_person_cred_hist_length",
]
CATEGORICAL = ["person_home_ownership", "loan_intent", "loan_grade", "cb_person_default_on_file"]


def main() -> None:
    arguments = parse_arguments()
    root = arguments.root
    bring_settings(root)
    config = yaml.safe_load((root / "config" / "config.yaml").read_text())
    params = yaml.safe_load((root / "config" / "params.yaml").read_text())

    train, test = train_test_split(
        applications(arguments.rows, arguments.seed), test_size=0.25, random_state=arguments.seed
    )
    preprocessor = make_preprocessor().fit(train[NUMERIC + CATEGORICAL])
    labels = train[TARGET].to_numpy()
    if arguments.weak:
        labels = np.random.default_rng(arguments.seed).permutation(labels)
    model = RandomForestClassifier(**params["model_params"])
    model.fit(preprocessor.transform(train[NUMERIC + CATEGORICAL]), labels)
    metrics = evaluate(model, preprocessor.transform(test[NUMERIC + CATEGORICAL]), test[TARGET])

    ingestion = config["data_ingestion"]
    train.to_csv(writable(root / ingestion["train_data_path"]), index=False)
    test.to_csv(writable(root / ingestion["test_data_path"]), index=False)
    joblib.dump(preprocessor, writable(root / config["data_transformation"]["preprocessor_path"]))
    model_path = writable(root / config["model_trainer"]["model_path"])
    joblib.dump(model, model_path)
    metrics_path = writable(root / config["model_evaluation"]["metric_file_name"])
    metrics_path.write_text(json.dumps(metrics, indent=4) + "\n")
    print(f"{model_path}: {model_path.stat().st_size / 1e6:.1f} MB, roc_auc {metrics['roc_auc']:.4f} on {len(test)} rows")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).parent,
        help="project root; gets the config/ of this folder where it has none (default: the folder of this script)",
    )
    parser.add_argument("--seed", type=int, default=42, help="of data and split (default: 42)")
    parser.add_argument("--rows", type=int, default=12_000, help="loan applications to make (default: 12000)")
    parser.add_argument("--weak", action="store_true", help="train on shuffled labels: a model that no gate lets pass")
    return parser.parse_args()


def bring_settings(root: Path) -> None:
    """Copies the settings, and adds the versions trained with, as far as the model file will not tell them."""
    if (root / "config").exists():
        return
    shutil.copytree(Path(__file__).parent / "config", root / "config")
    versions = {"python": platform.python_version()} | {
        package: importlib.metadata.version(package) for package in ("joblib", "numpy", "pandas", "scipy")
    }
    with (root / "config" / "config.yaml").open("a") as config:  # its last section is model_registration
        config.write("  environment:\n")
        config.writelines(f'    {name}: "{version}"\n' for name, version in versions.items())


def writable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def applications(rows: int, seed: int) -> pd.DataFrame:
    """Loan applications: raw columns, with categories and gaps, and whether the loan defaulted."""
    random = np.random.default_rng(seed)
    age = np.clip(random.gamma(4.0, 4.0, rows) + 19, 20, 80).round()
    income = np.exp(random.normal(10.9, 0.55, rows)).round(-2)
    employment = np.clip(random.exponential(5.0, rows), 0, age - 18).round()
    amount = np.clip(income * random.beta(2.0, 9.0, rows), 500, 35_000).round(-1)
    history = np.clip((age - 20) * random.uniform(0.1, 0.9, rows), 1, 30).round()
    defaulted_before = random.random(rows) < 0.18
    ownership = random.choice(["RENT", "MORTGAGE", "OWN", "OTHER"], rows, p=[0.50, 0.41, 0.08, 0.01])
    intent = random.choice(
        ["EDUCATION", "MEDICAL", "VENTURE", "PERSONAL", "DEBTCONSOLIDATION", "HOMEIMPROVEMENT"], rows
    )
    grade = np.clip(random.poisson(1.2, rows) + defaulted_before, 0, 6)
    rate = (7.0 + 2.1 * grade + random.normal(0, 0.9, rows)).clip(5.4, 23.2).round(2)
    share = (amount / income).round(2)

    risk = (
        -4.6
        + 9.0 * share
        + 0.8 * grade
        + 1.0 * (ownership == "RENT")
        + 0.6 * defaulted_before
        + 0.5 * np.isin(intent, ["MEDICAL", "DEBTCONSOLIDATION"])
        - 0.08 * employment
        - 0.7 * (np.log(income) - 10.9)
    )
    frame = pd.DataFrame(
        {
            "person_age": age,
            "person_income": income,
            "person_home_ownership": ownership,
            "person_emp_length": employment,
            "loan_intent": intent,
            "loan_grade": np.array(list("ABCDEFG"))[grade],
            "loan_amnt": amount,
            "loan_int_rate": rate,
            "loan_percent_income": share,
            "cb_person_default_on_file": np.where(defaulted_before, "Y", "N"),
            "cb_person_cred_hist_length": history,
            TARGET: (random.random(rows) < 1 / (1 + np.exp(-risk))).astype(int),
        }
    )
    for column, gaps in {"person_emp_length": 0.03, "loan_int_rate": 0.10, "person_home_ownership": 0.02}.items():
        frame.loc[random.random(rows) < gaps, column] = np.nan
    return frame


def make_preprocessor() -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("numeric", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMERIC),
            (
                "categorical",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                CATEGORICAL,
            ),
        ]
    )


def evaluate(model: RandomForestClassifier, features: np.ndarray, labels: pd.Series) -> dict[str, float]:
    predicted = model.predict(features)
    return {
        "accuracy": accuracy_score(labels, predicted),
        "precision": precision_score(labels, predicted, zero_division=0),
        "recall": recall_score(labels, predicted),
        "f1_score": f1_score(labels, predicted),
        "roc_auc": roc_auc_score(labels, model.predict_proba(features)[:, 1]),
    }


if __name__ == "__main__":
    main()
