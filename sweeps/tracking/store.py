"""Opening the tracking store: created once, checked quickly, quiet, and with errors that a user can act on.

SQLite stays in its default rollback-journal mode. Write-ahead logging would halve the contention, but it needs
shared memory, which no network file system has, and the mode is stored in the file: set by a login node that
holds the disk, it would corrupt the store for the compute nodes that mount it. Batches make contention small.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.study.core.damage import DamagedError, set_aside
from ablative.study.core.errors import StoreError
from ablative.study.core.files import naming, read_text, write_json
from ablative.study.home.paths import Home
from ablative.study.home.sharing import new_file_mode
from ablative.sweeps.tracking.contents.tags import KIND, experiment_tags
from ablative.sweeps.tracking.cursor import Target, read_target
from ablative.sweeps.tracking.faults import Exists, faults
from ablative.sweeps.tracking.locks import Busy, exclusive
from ablative.sweeps.tracking.quiet import quiet
from ablative.sweeps.tracking.uri import is_http, redact_store, resolve, sqlite_path, store_key

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 8
"""How long an unresponsive store may keep us before it counts as unreachable; a busy server's first answer takes 5."""
CREATE_SECONDS = 120.0
"""How long to wait for another process that is creating the store (it takes 2 to 10 s)."""


@dataclass(frozen=True)
class Experiment:
    """A study's experiment in the tracking store."""

    uri: str
    """Resolved, with its secrets."""
    id: str
    key: str
    """`<id>@<creation time>`: a store that was created anew has another."""
    artifacts: str
    """URI of the folder of its runs' files."""


@contextlib.contextmanager
def _soon(uri: str) -> Iterator[None]:
    """HTTP requests of the block are answered within `PROBE_SECONDS` or fail."""
    before = os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT")
    if is_http(uri):
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(PROBE_SECONDS)
    try:
        yield
    finally:
        if before is not None:
            os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = before


def client(uri: str) -> MlflowClient:
    """An MLflow client of a resolved URI; call inside `quiet`."""
    from mlflow import MlflowClient

    return MlflowClient(uri, registry_uri=uri)


def prepare(home: Home, study: str, title: str = "") -> Experiment:
    """Open the tracking store and the study's experiment, creating what is missing; safe for many processes at once.

    Call it before jobs start. Returns within seconds or raises StoreError: no server answers, the file is locked,
    read-only or full, the schema is another version's, the URI is none, the experiment was deleted. Costs
    milliseconds where an SQLite store is as we left it, else MLflow's import. `title`: the study's, for MLflow's page.
    """
    try:
        return _prepare(home, study, title)
    except OSError as error:
        raise StoreError(f"{error.filename or home.root}: {error.strerror or error}") from error


def _prepare(home: Home, study: str, title: str) -> Experiment:
    uri = resolve(home.tracking_uri)
    if (known := _known(uri, home, study)) is not None:
        return known
    with quiet(uri), faults(uri):
        schema = "" if is_http(uri) else _ready(uri)
        found = None if schema is None else _find(uri, study)
        if found is None:
            found = _create(home, uri, study, experiment_tags(study, title))
            schema = schema if is_http(uri) else _ready(uri)
        if found.lifecycle_stage != "active":
            raise StoreError(
                f"{redact_store(uri)}: experiment '{study}' was deleted; bring it back with "
                f"'mlflow experiments restore -x {found.experiment_id}', or rename the study"
            )
        _describe(uri, found, experiment_tags(study, title))
    key = f"{found.experiment_id}@{found.creation_time}"
    experiment = Experiment(uri, found.experiment_id, key, found.artifact_location)
    target = Target(store_key(home), experiment.key, schema or "", metadata.version("mlflow"))
    if read_target(study, home) != target:
        write_json(home.study(study).tracking, asdict(target))
    return experiment


def _known(uri: str, home: Home, study: str) -> Experiment | None:
    """The experiment of an SQLite store that is as we last saw it and can be written, found without MLflow.

    None in any doubt: the long way finds out what is wrong.
    """
    path, target = sqlite_path(uri), read_target(study, home)
    if path is None or target is None or target.mlflow != metadata.version("mlflow"):
        return None
    number, _, created = target.experiment.partition("@")
    query = "SELECT artifact_location FROM experiments WHERE experiment_id = ? AND creation_time = ? AND name = ?"
    described = f"EXISTS (SELECT 1 FROM experiment_tags WHERE experiment_id = ? AND key = '{KIND}')"
    try:
        if _sqlite_version(path) != target.schema:
            return None
        with contextlib.closing(_open(path)) as connection:
            where = f"{query} AND lifecycle_stage = 'active' AND {described}"
            row = connection.execute(where, (number, created, study, number)).fetchone()
    except sqlite3.Error:
        return None
    return Experiment(uri, number, target.experiment, row[0]) if row else None


def home_identity(home: Home) -> str:
    """The home's random name, made at first use."""
    try:
        if name := read_text(home.identity).strip():
            return name
        set_aside(home.identity, "empty")
    except FileNotFoundError:
        pass
    except DamagedError as error:
        set_aside(home.identity, error.reason)
    home.root.mkdir(parents=True, exist_ok=True)
    draft = home.identity.with_name(f".identity.{uuid.uuid4().hex}")
    with naming(home.identity):
        draft.write_text(uuid.uuid4().hex[:12] + "\n")
    _publish(draft, home.identity)
    draft.unlink(missing_ok=True)
    return home.identity.read_text().strip()


def _find(uri: str, study: str) -> Any:
    with _soon(uri):
        return client(uri).get_experiment_by_name(study)


def _create(home: Home, uri: str, study: str, tags: dict[str, str]) -> Any:
    """Create store and experiment under the home's lock: the second process finds both."""
    try:
        with exclusive(home.store_lock, CREATE_SECONDS):
            if not is_http(uri) and _ready(uri) is None:
                _create_store(uri, home)
            return _find(uri, study) or _create_experiment(uri, home, study, tags)
    except Busy:
        raise StoreError(
            f"{redact_store(uri)}: another process has been creating the store for {CREATE_SECONDS:.0f} s; "
            f"if none is, remove {home.store_lock}"
        ) from None


def _create_experiment(uri: str, home: Home, study: str, tags: dict[str, str]) -> Any:
    # A server knows where its artifacts go; a database has no better place than our home.
    location = None if is_http(uri) else home.artifacts.as_uri()
    # Another home may do the same on the same server at this moment.
    with contextlib.suppress(Exists), faults(uri):
        client(uri).create_experiment(study, artifact_location=location, tags=tags)
    return _find(uri, study)


def _describe(uri: str, experiment: Any, tags: dict[str, str]) -> None:
    """Give an experiment the tags that it lacks: what a user has written there stays."""
    for key, value in tags.items():
        if key not in experiment.tags:
            client(uri).set_experiment_tag(experiment.experiment_id, key, value)


def _create_store(uri: str, home: Home) -> None:
    """Create MLflow's tables. SQLite: in a file of another name, so that no process opens half a store."""
    path = sqlite_path(uri)
    if path is None:
        _create_tables(uri, home)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _create_tables(f"sqlite:///{draft}", home)
        # SQLite lets no one but its owner write, whatever the umask, and gives its journals the same rights.
        draft.chmod(new_file_mode())
        _publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless somebody else's has it."""
    try:
        os.link(draft, path)
    except FileExistsError:
        if path.is_file() and not path.stat().st_size:
            # Emptied by a full disk, or made by `touch`.
            os.replace(draft, path)
        return
    except OSError:
        # No hard links here; we hold the lock, so that only a stranger could be overwritten.
        os.rename(draft, path)


def _create_tables(uri: str, home: Home) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, home.artifacts.as_uri()).engine.dispose()


def _ready(uri: str) -> str | None:
    """Schema version of a database with MLflow's tables as we write them; None where it is empty or absent.

    Asked before MLflow opens it: MLflow waits 20 s for a lock, 100 s for a server, and migrates what it likes.
    """
    path = sqlite_path(uri)
    version = _sqlite_version(path) if path else _database_version(uri)
    if version is not None:
        _check_version(uri, version)
    return version


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=PROBE_SECONDS, uri=True, isolation_level=None)


def _sqlite_version(path: Path) -> str | None:
    """Also begins to write and takes it back: finds out a lock, a read-only file and a read-only folder."""
    if not path.exists():
        return None
    with contextlib.closing(_open(path)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall() if tables[0] else []
        connection.execute("BEGIN IMMEDIATE")
        if rows:
            # BEGIN alone says nothing of a read-only file or folder.
            connection.execute("UPDATE alembic_version SET version_num = version_num")
        connection.execute("ROLLBACK")
    return rows[0][0] if rows else None


def _database_version(uri: str) -> str | None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()


def _check_version(uri: str, found: str) -> None:
    """Refuse a schema that this MLflow does not write."""
    import mlflow
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    scripts = ScriptDirectory.from_config(config)
    if found == scripts.get_current_head():
        return
    known = any(script.revision == found for script in scripts.walk_revisions())
    advice = (
        f"an older MLflow wrote it: back it up, then run 'mlflow db upgrade {redact_store(uri)}'"
        if known
        else "a newer MLflow wrote it: install that version here, or use another store"
    )
    raise StoreError(
        f"{redact_store(uri)}: the store's schema is {found}, MLflow {mlflow.__version__} "
        f"needs {scripts.get_current_head()}; {advice}"
    )
