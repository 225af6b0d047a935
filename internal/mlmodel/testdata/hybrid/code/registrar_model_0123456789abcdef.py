"""Loads the joblib file beside this folder. Written by registrar."""

import sys
from pathlib import Path

import joblib


def load():
    here = Path(__file__)
    for entry in [*sys.path, here.parent]:
        if (Path(entry) / here.name).is_file():
            model = Path(entry).resolve().parent / "model.joblib"
            if model.is_file():
                return joblib.load(model)
    raise FileNotFoundError("model.joblib is not beside the folder of " + here.name + ": load the model's whole folder")
