"""The floor: the requests of a registration from a bare script, over a connection that is kept, without a look at any answer but for ids.

Nothing is hashed, inspected, compared or tried again. Which requests: all those that registrar sends (test/chaos/testdata/requests.txt), or
the fewest that leave the same objects behind.
"""

import concurrent.futures
import http.client
import json
import pathlib
import struct
import sys
import time
import urllib.parse
import uuid

which, model_path, metrics_path, name, count, threads, uri = sys.argv[1:]
if which not in ("same", "fewest"):
    sys.exit("which requests? same or fewest")
count, threads, uri = int(count), int(threads), urllib.parse.urlsplit(uri)
API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


class MLflow:
    def __init__(self):
        self.connection = http.client.HTTPConnection(uri.hostname, uri.port)

    def ask(self, method, path, body=None, accept=(200,), headers=None):
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json"}
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        answer = response.read()
        if response.status not in accept:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:500]}")
        return json.loads(answer or b"{}") if answer[:1] in (b"{", b"") else {}

    def post(self, endpoint, body, accept=(200,)):
        return self.ask("POST", API + endpoint, body, accept)


def wrapped(path):
    """joblib.load(io.BytesIO(<the file>)) as a pickle, in pieces."""
    size = path.stat().st_size
    yield b"\x80\x04\x8c\x06joblib\x8c\x04load\x93\x8c\x02io\x8c\x07BytesIO\x93\x8e" + struct.pack("<Q", size)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
    yield b"\x85R\x85R."


def register(mlflow, name):
    """One registration. What `same` alone asks for stands under `if looks`: what is there already, and whether what was made is right."""
    looks = which == "same"
    now = int(time.time() * 1000)
    key = uuid.uuid4().hex
    mine = f"tags.`registrar.key` = '{key}'"
    if looks:
        mlflow.ask("GET", API + "logged-models/m-00000000000000000000000000000000", accept=(404,))
        mlflow.ask("GET", ARTIFACTS + "?path=")
        mlflow.ask("GET", "/version")
        mlflow.ask("GET", API + "model-versions/search?" + urllib.parse.urlencode({"filter": mine}))
    experiments = mlflow.post("experiments/search", {"max_results": 1000, "view_type": "ALL"})["experiments"]
    experiment = next((e["experiment_id"] for e in experiments if e["name"] == "bench"), None)
    if experiment is None:
        experiment = mlflow.post("experiments/create", {"name": "bench"})["experiment_id"]
    everywhere = [e["experiment_id"] for e in experiments]
    if looks:
        mlflow.post("runs/search", {"experiment_ids": everywhere, "filter": mine})
        mlflow.post("logged-models/search", {"experiment_ids": everywhere, "filter": mine})
    run = mlflow.post("runs/create", {
        "experiment_id": experiment, "run_name": "Model_Registration_Stage", "start_time": now, "tags": [{"key": "registrar.key", "value": key}]})["run"]["info"]
    run_id = run["run_id"]
    model = mlflow.post("logged-models", {"experiment_id": experiment, "name": "model", "source_run_id": run_id})["model"]["info"]
    model_id = model["model_id"]
    mlflow.post("runs/outputs", {"run_id": run_id, "models": [{"model_id": model_id, "step": 0}]})
    metrics = json.loads(pathlib.Path(metrics_path).read_text())
    mlflow.post("runs/log-batch", {"run_id": run_id, "params": [{"key": "model_name", "value": name}], "metrics": [
        {"key": key, "value": value, "timestamp": now, "step": 0, "model_id": model_id} for key, value in metrics.items()]})
    folder = ARTIFACTS + model["artifact_uri"].removeprefix("mlflow-artifacts:")
    size = pathlib.Path(model_path).stat().st_size + 45
    mlflow.ask("PUT", folder + "/model.pkl", wrapped(pathlib.Path(model_path)), headers={"Content-Length": str(size)})
    for file in "conda.yaml", "python_env.yaml", "requirements.txt", "MLmodel":
        mlflow.ask("PUT", folder + "/" + file, b"x" * 500)
    if looks:
        mlflow.ask("GET", ARTIFACTS + "?" + urllib.parse.urlencode({"path": model["artifact_uri"].removeprefix("mlflow-artifacts:/")}))
    mlflow.ask("PATCH", API + "logged-models/" + model_id, {"model_id": model_id, "status": "LOGGED_MODEL_READY"})
    mlflow.post("registered-models/create", {"name": name}, accept=(200, 400))
    version = mlflow.post("model-versions/create", {
        "name": name, "source": "models:/" + model_id, "run_id": run_id, "model_id": model_id})["model_version"]["version"]
    before = None
    if looks:
        mlflow.post("runs/log-parameter", {"run_id": run_id, "key": "registrar.version", "value": version})
        mlflow.ask("GET", API + "registered-models/get?" + urllib.parse.urlencode({"name": name}))
        versions = mlflow.ask("GET", API + "model-versions/search?" + urllib.parse.urlencode({"filter": f"name = '{name}'"}))["model_versions"]
        before = next((v["version"] for v in versions if v["current_stage"] == "Staging"), None)
    mlflow.post("model-versions/transition-stage", {"name": name, "version": version, "stage": "Staging", "archive_existing_versions": False})
    mlflow.post("registered-models/alias", {"name": name, "alias": "staging", "version": version})
    if before:
        mlflow.post("model-versions/transition-stage", {"name": name, "version": before, "stage": "Archived", "archive_existing_versions": False})
    if looks:
        mlflow.ask("GET", API + "registered-models/alias?" + urllib.parse.urlencode({"name": name, "alias": "staging"}))
        mlflow.ask("PUT", ARTIFACTS + run["artifact_uri"].removeprefix("mlflow-artifacts:") + "/history.svg", b"x" * 5000)
    mlflow.post("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": int(time.time() * 1000)})
    if looks:
        mlflow.post("model-versions/set-tag", {"name": name, "version": version, "key": "registrar.completed", "value": "now"})


def work(thread):
    mlflow = MLflow()
    for i in range(thread, count, threads):
        register(mlflow, name if count == 1 else f"{name}-{i}")


if count == 1:
    register(MLflow(), name)
else:
    register(MLflow(), name)  # so that the experiment is there
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, i) for i in range(threads)]:
            done.result()
