"""A Prediction API in small: scores raw loan applications with nothing but what the registry holds.

One download of models:/<name>/Staging brings the model and the preprocessor that was registered beside it, so they belong
together even where the stage moves on meanwhile. Rows come as they are filled in: with gaps, and with categories that
nobody has seen in training.

    GET  /health   which version answers
    POST /predict  {"rows": [{"person_age": 31, "loan_intent": "MEDICAL", ...}, ...]}
"""

import argparse
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import mlflow
import pandas as pd
import uvicorn
import yaml
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

PREPROCESSOR = "extra_files/preprocessor.pkl"
REFUSE_FROM = 0.5  # default probability


@dataclass(frozen=True)
class Scorer:
    """A registered version: how raw rows become probabilities."""

    name: str
    version: str
    model: Any
    preprocessor: Any

    @classmethod
    def load(cls, reference: str) -> "Scorer":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(mlflow.artifacts.download_artifacts(reference, dst_path=folder))
            if not (path / PREPROCESSOR).exists():
                raise SystemExit(
                    f"{reference} has no {PREPROCESSOR}: register it with the preprocessor in model_registration.extra_files"
                )
            registered = yaml.safe_load((path / "registered_model_meta").read_text())  # written by the download
            return cls(
                name=registered["model_name"],
                version=str(registered["model_version"]),
                model=mlflow.sklearn.load_model(str(path)),
                preprocessor=joblib.load(path / PREPROCESSOR),
            )

    def default_probabilities(self, rows: list[dict[str, Any]]) -> list[float]:
        """One for each row. A column that is absent or null is a gap; one that the model does not know is an error."""
        columns = list(self.preprocessor.feature_names_in_)
        unknown = sorted({column for row in rows for column in row} - set(columns))
        if unknown:
            raise ValueError(f"unknown columns {unknown}: want some of {columns}")
        frame = pd.DataFrame(rows, columns=columns)
        features = self.preprocessor.transform(frame.where(frame.notna(), float("nan")))
        return self.model.predict_proba(features)[:, 1].tolist()


class Applications(BaseModel):
    """What /predict is asked."""

    rows: list[dict[str, float | str | None]] = Field(min_length=1, max_length=10_000)


class Score(BaseModel):
    default_probability: float
    decision: str


class Scores(BaseModel):
    """What /predict answers, with the version that answered: a score is of no use where nobody can tell whose it is."""

    model: str
    version: str
    predictions: list[Score]


def application(reference: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(api: FastAPI):
        api.state.scorer = Scorer.load(reference)
        yield

    api = FastAPI(title="Prediction API", lifespan=lifespan)

    @api.get("/health")
    def health(request: Request) -> dict[str, str]:
        scorer = request.app.state.scorer
        return {"model": scorer.name, "version": scorer.version}

    @api.post("/predict")
    def predict(request: Request, applications: Applications) -> Scores:
        scorer = request.app.state.scorer
        try:
            probabilities = scorer.default_probabilities(applications.rows)
        except ValueError as error:  # what scikit-learn says of a word where it wants a number, too
            raise HTTPException(status_code=422, detail=str(error)) from error
        return Scores(
            model=scorer.name,
            version=scorer.version,
            predictions=[
                Score(default_probability=p, decision="refuse" if p >= REFUSE_FROM else "grant") for p in probabilities
            ],
        )

    return api


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models:/ACRAS_RandomForest_v1/Staging", help="default: %(default)s")
    parser.add_argument("--tracking-uri", help="MLflow server (default: MLFLOW_TRACKING_URI)")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.tracking_uri:
        mlflow.set_tracking_uri(arguments.tracking_uri)
    uvicorn.run(application(arguments.model), host=arguments.host, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
