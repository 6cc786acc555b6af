"""MLflow's, SQLAlchemy's and SQLite's errors as one line that says what happened, without secrets."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from ablative.study.core.errors import StoreError
from ablative.sweeps.tracking.uri import redact_store

DAMAGED = (
    "is not an SQLite database, or is damaged: move it away, and 'ablate sync STUDY' fills a new one from the journals"
)
LATE, BROKE_OFF = "does not answer in time", "broke off"
SIGNS = (
    (("Invalid Host header",), "does not take this host name: start it with --allowed-hosts HOST:PORT"),
    (("too many clients", "remaining connection slots"), "has no connection left: put an MLflow server before it"),
    (("Connection refused", "Failed to establish a new connection"), "nobody answers (connection refused)"),
    (("timed out", "timeout"), LATE),
    (("Name or service not known", "name resolution", "could not translate host name"), "unknown host"),
    (("Connection aborted", "Connection reset", "Connection broken", "closed the connection", "Remote end"), BROKE_OFF),
    (("database is locked", "database table is locked"), "is locked by another process"),
    (("readonly database", "read-only", "unable to open database file", "permission denied"), "cannot be written"),
    (("disk is full", "No space left", "disk I/O error", "File too large"), "cannot be written: disk full or failing"),
    (("file is not a database", "malformed"), DAMAGED),
    (("password authentication failed", "error code 401", "error code 403"), "refuses our user or password"),
    (("does not exist", "error code 404"), "is not there"),
)
"""Texts found in errors, and what they mean for the store."""


class Unanswered(StoreError):
    """It is unknown whether the store has done it, or will: it broke off, or did not answer in time."""


class Refused(StoreError):
    """The store answers, but does not take this: a fault of one task, not of the store."""


class Gone(Refused):
    """The MLflow run does not exist any more: deleted by a user, or with its store."""


class Missing(Refused):
    """What was to be changed or deleted is not there."""


class Exists(Refused):
    """What was to be created is there already."""


@contextlib.contextmanager
def faults(uri: str) -> Iterator[None]:
    """Raise what goes wrong in the block as StoreError, or as its kind that says more."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        raise _from_mlflow(error.error_code, str(error), uri) from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(sentence(str(error), uri)) from error


def _from_mlflow(code: str, text: str, uri: str) -> StoreError:
    if code == "RESOURCE_ALREADY_EXISTS":
        return Exists(sentence(text, uri))
    if "must be in the 'active' state" in text or (code == "RESOURCE_DOES_NOT_EXIST" and "Run " in text):
        return Gone(sentence(text, uri))
    if code == "RESOURCE_DOES_NOT_EXIST":
        return Missing(sentence(text, uri))
    if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE") and not _meaning(text):
        return Refused(sentence(text, uri))
    if _meaning(text) in (LATE, BROKE_OFF):
        return Unanswered(sentence(text, uri))
    return StoreError(sentence(text, uri))


def sentence(text: str, uri: str) -> str:
    """One line: the store, what it means, and where we know no meaning the beginning of the message itself."""
    meaning = _meaning(text)
    said = " ".join(redact_store(text, uri).split())
    return f"tracking store {redact_store(uri)}" + (f" {meaning}" if meaning else f": {said[:300]}")


def _meaning(text: str) -> str:
    """What an error says about the store; the first line only, so that values quoted further down say nothing."""
    head = text.partition("\n")[0].lower()
    return next((meaning for signs, meaning in SIGNS if any(sign.lower() in head for sign in signs)), "")
