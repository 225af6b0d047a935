"""Makes the bucket that MLflow keeps its artifacts in. May be repeated: a bucket that is there stays as it is.

The server and its keys are found by MLflow's own variables: MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_DEFAULT_REGION. MLFLOW_BUCKET names the bucket.
"""

import os

import boto3

s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
try:
    s3.create_bucket(Bucket=os.environ["MLFLOW_BUCKET"])
except s3.exceptions.BucketAlreadyOwnedByYou:
    pass
