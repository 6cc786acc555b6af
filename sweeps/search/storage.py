"""Where the trials stand: a journal in the home, or the database that `OPTUNA_STORAGE` names.

The journal is Optuna's own (plain Optuna and its dashboard open it as it is), and fit for a file system that
several machines share. Two things are done differently here. A lock that was left by a process that died is taken
over at once instead of after half a minute. And a last line that was not written whole is cut off before the
next one is appended: Optuna would append to it, and could never read the file again.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file

from ablative.study.core.damage import misfit
from ablative.study.core.errors import AblateError, ConfigError, StoreError, unknown
from ablative.study.core.files import naming
from ablative.study.home.search_paths import SearchPaths
from ablative.sweeps.queue import leases

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

VARIABLE = "OPTUNA_STORAGE"
"""A PostgreSQL or SQLite URI; Optuna's own command line reads it too."""
SCHEMES = ("sqlite", "postgresql")
STALE_SECONDS = 30.0
"""A lock of another machine of this age is dead (Optuna's own grace period)."""
BUSY_SECONDS = 60
_LONGEST_NAP = 0.05


class Lock(BaseJournalFileLock):
    """A lease (`sweeps.queue.leases`) as Optuna's lock, under the name that Optuna's own would have."""

    def __init__(self, path: Path, stale_seconds: float = STALE_SECONDS) -> None:
        self._path, self._stale = path, stale_seconds
        self._lease: leases.Lease | None = None

    def acquire(self) -> bool:
        nap = 0.001
        while (lease := leases.acquire(self._path, "", self._stale)) is None:
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP)
        self._lease = lease
        return True

    def release(self) -> None:
        assert self._lease is not None
        self._lease.release()
        self._lease = None


class Backend(JournalFileBackend):
    """Optuna's journal file, mended before it is appended to."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Lock(path.with_name(path.name + ".lock")))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        import json

        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with get_lock_file(self._lock):
            repair(self._path)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                with naming(self._path):
                    _write(handle, lines)
            finally:
                os.close(handle)


def repair(path: Path) -> int:
    """Cut off a last line without its end; returns how many bytes that were. The caller holds the lock."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return 0
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return 0
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
    return size - whole


def open_storage(paths: SearchPaths) -> BaseStorage:
    """The search's storage, created where there is none.

    Raises:
        ConfigError: a URI of another kind, or of MLflow's database.
        StoreError: the database cannot be reached, or the journal is damaged.
    """
    uri = os.environ.get(VARIABLE, "")
    if not uri:
        paths.root.mkdir(parents=True, exist_ok=True)
        with naming_journal(paths):
            return JournalStorage(Backend(paths.storage))
    from ablative.sweeps.tracking.uri import redact_store, resolve, scheme

    if scheme(uri) not in SCHEMES:
        raise ConfigError(f"{VARIABLE}={redact_store(uri)}: {unknown('storage', scheme(uri), SCHEMES)}")
    patient: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}}
    arguments = patient if scheme(uri) == "sqlite" else {"pool_pre_ping": True}
    try:
        address = resolve(uri, VARIABLE)
        # Before Optuna lays out its tables: both keep their version in one of the same name.
        if "experiments" in _tables(address, arguments):
            raise ConfigError(f"{VARIABLE}={redact_store(uri)}: this is MLflow's database; give Optuna one of its own")
        return RDBStorage(address, engine_kwargs=arguments)
    except (ConfigError, StoreError):
        raise
    except Exception as error:
        # SQLAlchemy, its drivers and alembic each have their own.
        said = redact_store(str(error).partition("\n")[0], uri)
        raise StoreError(f"{VARIABLE}={redact_store(uri)}: {type(error).__name__}: {said}") from None


@contextlib.contextmanager
def naming_journal(paths: SearchPaths) -> Iterator[None]:
    """Raise StoreError for what Optuna raises when it reads a damaged journal: it checks nothing, and raises anything.

    Optuna reads all of the journal when it opens it, except a damaged last line: at that it fails after the next one.
    """
    try:
        yield
    except (AblateError, OSError):
        raise
    except Exception as error:
        if os.environ.get(VARIABLE):  # a database
            raise
        raise _unreadable(paths.storage, f"{type(error).__name__}: {error}") from None


def check_trials(study: Study, path: Path) -> None:
    """Raise StoreError where a trial's results are no numbers: Optuna keeps what the journal says, and fails later."""
    for trial in study.get_trials(deepcopy=False):
        results = {"values": trial.values or [], "intermediate values": list(trial.intermediate_values.values())}
        for name, values in results.items():
            if wrong := misfit(values, [float], name):
                raise _unreadable(path, f"trial {trial.number}: {wrong}")


def _unreadable(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"{path}: Optuna cannot read the search's journal ({reason}); put back a copy, or "
        "move it away to begin the search again (finished runs are not run again)"
    )


def name_goals(study: Study, names: list[str]) -> None:
    """Give the goals their names, unless they have them: each call would add a line to the journal."""
    if study.metric_names == names:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(names)


def _tables(address: str, arguments: dict[str, Any]) -> list[str]:
    from sqlalchemy import create_engine, inspect

    engine = create_engine(address, **arguments)
    try:
        return inspect(engine).get_table_names()
    finally:
        engine.dispose()


@contextlib.contextmanager
def faults(paths: SearchPaths) -> Iterator[None]:
    """What a storage that went away makes Optuna raise, as one line that says how to go on."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    from ablative.sweeps.tracking.uri import redact_store

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        said = redact_store(str(error.__cause__ or error).partition("\n")[0])
        raise StoreError(
            f"{describe(paths)} does not answer ({said}); nothing is lost: the same command goes on when it does"
        ) from None


def describe(paths: SearchPaths) -> str:
    """The storage as text for people and for `optuna-dashboard`, without passwords."""
    from ablative.sweeps.tracking.uri import redact_store

    return redact_store(os.environ.get(VARIABLE, "")) or str(paths.storage)


def _write(handle: int, lines: bytes) -> None:
    """All of it or nothing: on a full disk, what was written of it is taken back."""
    start = os.fstat(handle).st_size
    try:
        written = 0
        while written < len(lines):
            written += os.write(handle, lines[written:])
        os.fsync(handle)
    except OSError:
        os.truncate(handle, start)
        raise
