#!/bin/sh
# Gives MLflow a database and a role of its own, so that it reads and writes nothing of Temporal's. The image runs this once, when
# its volume is empty; needs POSTGRES_USER and MLFLOW_DB_PASSWORD.
set -eu

# \getenv rather than an argument: arguments show in the list of processes.
psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 <<'SQL'
\getenv password MLFLOW_DB_PASSWORD
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
SQL
