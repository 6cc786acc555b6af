"""MLflow without its retries, telemetry, banners and tracebacks."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from ablative.sweeps.tracking.uri import sqlite_path

REQUEST_SECONDS = 30
"""Time-out of one HTTP request: longer than a server waits for its own locked SQLite file (20 s)."""

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Retries are ours (the journal waits), MLflow's seven would block for four minutes; the rest keeps it quiet."""

LOGGERS = ("mlflow", "alembic", "sqlalchemy")
"""They print tracebacks of errors that we report, and every migration."""
POOL = "MLFLOW_SQLALCHEMYSTORE_"
"""Prefix of MLflow's settings of connection pools."""


@contextlib.contextmanager
def quiet(uri: str) -> Iterator[None]:
    """MLflow's environment for the block, put back afterwards; a user's own settings win. No warnings."""
    wanted = dict(ENVIRONMENT)
    if sqlite_path(uri) and not any(name.startswith(POOL) for name in os.environ):
        # A pooled connection would go on writing into a file that was deleted or replaced meanwhile.
        wanted[f"{POOL}POOLCLASS"] = "NullPool"
    added = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in added})
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
