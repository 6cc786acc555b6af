"""Tasks, a shipper and a worker's end that quote the tracking store's address, as libraries do."""

from __future__ import annotations

import os
from urllib.parse import unquote

from ablative.study.home.paths import Home
from ablative.study.trainers import JobTask

if os.environ.get("LEAKY_IMPORT"):
    raise ImportError(f"no driver for {os.environ['MLFLOW_TRACKING_URI']}")


def execute(job: JobTask) -> None:
    """Fail, in two forms of the address at once."""
    address = os.environ["MLFLOW_TRACKING_URI"]
    try:
        raise ConnectionError(f"no answer from {address}")
    except ConnectionError as error:
        raise ValueError(f"cannot reach {unquote(address)!r}") from error


class UploadClient:
    """Cannot begin."""

    def __init__(self, study: str, home: Home) -> None:
        raise OSError(f"pool of {os.environ['MLFLOW_TRACKING_URI']} is exhausted")
