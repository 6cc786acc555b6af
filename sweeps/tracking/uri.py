"""Tracking URIs: which are understood, what two of them have in common, and how they are printed."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ablative.study.core import secrets
from ablative.study.core.errors import StoreError, unknown
from ablative.study.core.extras import sentence
from ablative.study.home.paths import Home

SCHEMES = ("sqlite", "postgresql", "http", "https")
DEFAULT = "default"
"""Key of a home's own store."""
POSTGRES_LIMITS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""libpq options (seconds; the last in milliseconds): a server that vanishes is noticed within half a minute."""


def scheme(uri: str) -> str:
    """`sqlite`, `postgresql`, `http`, … without driver; `postgres` is the old name of `postgresql`."""
    name = uri.partition(":")[0].split("+")[0].lower() if ":" in uri else ""
    return "postgresql" if name == "postgres" else name


def is_http(uri: str) -> bool:
    return scheme(uri) in ("http", "https")


def sqlite_path(uri: str) -> Path | None:
    """File of an SQLite URI, absolute; None for other stores."""
    if scheme(uri) != "sqlite":
        return None
    return Path(uri.partition(":///")[2].partition("?")[0]).absolute()


def resolve(uri: str, variable: str = "MLFLOW_TRACKING_URI") -> str:
    """The URI (of an environment's `variable`) as MLflow is given it; raises StoreError for one that cannot work.

    SQLite paths become absolute (jobs run elsewhere), PostgreSQL gets its driver (SQLAlchemy's default changed
    to psycopg 3) and time-outs.
    """
    kind = scheme(uri)
    if kind not in SCHEMES:
        found = kind or "a folder (MLflow's file store)"
        raise StoreError(f"{variable}={redact_store(uri)}: {unknown('tracking store', found, SCHEMES)}")
    if kind == "sqlite":
        return f"sqlite:///{_sqlite_file(uri, variable)}"
    secrets.check_address(variable, uri)
    return _postgres(uri) if kind == "postgresql" else uri.rstrip("/")


def _sqlite_file(uri: str, variable: str) -> Path:
    name = uri.partition(":///")[2].partition("?")[0]
    if not name or name == ":memory:":
        raise StoreError(
            f"{variable}={redact_store(uri)}: an SQLite store needs a file, as in sqlite:////folder/mlflow.db"
        )
    return Path(name).absolute()


def _postgres(uri: str) -> str:
    parts = urlsplit(uri)
    driver = parts.scheme.partition("+")[2] or _postgres_driver()
    query = {**POSTGRES_LIMITS, **dict(parse_qsl(parts.query))}
    return urlunsplit((f"postgresql+{driver}", parts.netloc, parts.path, urlencode(query), ""))


def _postgres_driver() -> str:
    for driver in ("psycopg2", "psycopg"):
        if importlib.util.find_spec(driver):
            return driver
    raise StoreError(f"a PostgreSQL tracking store needs a driver; {sentence('postgres')}")


def redact_store(text: str, *uris: str) -> str:
    """`study.core.secrets.redact`, which also leaves out what `resolve` added."""
    text = secrets.redact(text, *uris)
    for key, value in POSTGRES_LIMITS.items():
        text = re.sub(rf"(?<=[?&]){key}={value}(?:&|(?=\s)|$)", "", text)
    return re.sub(r"[?&](?=\s|$)", "", text)


def store_key(home: Home) -> str:
    """Short name of the store that the home's tasks are shipped to, the same for every user.

    The default store moves with its home; any other is known by its URI without secrets.
    """
    uri = home.tracking_uri
    if uri == f"sqlite:///{home.store}":
        return DEFAULT
    path = sqlite_path(uri)
    name = f"sqlite:{path}" if path else re.sub(r"://[^/\s]*@", "://", uri.partition("?")[0]).rstrip("/")
    return hashlib.sha256(name.encode()).hexdigest()[:12]
