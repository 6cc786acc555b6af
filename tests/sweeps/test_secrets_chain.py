"""A marked password in every address, and a look for it in everything that was written and printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import search_fakes
from fakes import HERE, tiny_plan, wait_for, write_study

from ablative.study.cli import main
from ablative.study.core.errors import AblateError
from ablative.study.core.files import read_json
from ablative.study.home.paths import Home
from ablative.study.home.search_paths import SearchPaths
from ablative.sweeps.queue.executors import live_jobs
from ablative.sweeps.status.task_states import survey
from ablative.sweeps.submission.submit import Code, submit

sys.path.append(str(HERE.parent))
from services import postgres

MARK = "m4rked:s3cret/w0rd"
PARTS = ("m4rked", "s3cret", "w0rd", "t0ken")
SMALL = (
    "schedule.steps=3",
    "schedule.warmup_steps=1",
    "schedule.batch_size=16",
    "objective.local_batch=8",
    "data.pairs=60",
    "suite.datasets.shapes_shape.test=60",
    "suite.protocols.zero_shot=[shapes_shape]",
    "drop=[{method: [mae_clip, masked_clip]}]",
)


def assert_unseen(text: str, what: object) -> None:
    for part in PARTS:
        at = text.find(part)
        assert at < 0, f"{what}: …{text[max(0, at - 200) : at + 80]}"


def assert_clean(folder: Path) -> None:
    """No file has it, nor any name of a file; there are files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert_unseen(str(path), path)
        assert_unseen(path.read_bytes().decode("latin-1"), path)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres"), MARK) as uri:
        yield uri


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "marked-t0ken")
    home = Home(tmp_path / "home")
    monkeypatch.setenv("ABLATE_HOME", str(home.root))
    return home


def test_from_plan_to_report(
    home: Home, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import sqlalchemy

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    engine = sqlalchemy.create_engine(database.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {urlsplit(database).username}_optuna"))
    server = urlsplit(database)
    place = f"{server.username}@{server.hostname}:{server.port}/{server.username}_optuna"
    monkeypatch.setenv("OPTUNA_STORAGE", f"postgresql://{place}?password={quote(MARK, safe='')}")
    write_study(tmp_path / "config")
    words = ["tiny", *SMALL, "--config-dir", str(tmp_path / "config")]
    assert main(["run", *words, "--jobs", "1"], standalone=False) == 0
    (run,) = (path.name for path in home.runs.iterdir())
    for command in (["status", *words, "--json"], ["logs", run], ["sync", *words, "--again"], ["doctor"]):
        assert main(command, standalone=False) == 0, command
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        assert main(["plan", *words, "cluster=slurm", "seeds=[0,1]", "--script"], standalone=False) == 0
    searcher = search_fakes.searcher(tmp_path, budget={"trials": 2})
    assert searcher.watch()
    printed = "".join(capfd.readouterr())
    assert_unseen(printed, "output")
    for part in ("shipped to postgresql://***@127.0.0.1", "#SBATCH --array", "postgresql+psycopg2://***@127.0.0.1"):
        assert part in printed
    assert_clean(home.root)
    with engine.connect() as connection:
        for table in sqlalchemy.inspect(engine).get_table_names():
            assert_unseen(repr(connection.execute(sqlalchemy.text(f"SELECT * FROM {table}")).all()), table)
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM params")).scalar_one() > 20
    engine.dispose()


BROKEN = "http://ann:m4rked%3As3cret%2Fw0rd@127.0.0.1:1/x?access_token=m4rked-t0ken"


def test_failures_that_quote_the_address(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a task, of the shipper beside it, and of the worker itself, which Submitit writes into a pickle and a log."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", BROKEN)
    plan = tiny_plan(home)
    made = submit(plan, 1, Code("leaky_tasks:execute", "leaky_tasks:UploadClient"))
    wait_for(lambda: len(survey(plan).having("failed")) == 3)
    failure = read_json(plan.tasks[0].paths(home).failure)
    assert failure is not None
    assert failure["message"] == "cannot reach 'http://***@127.0.0.1:1/x?access_token=***'"
    assert "ConnectionError: no answer from http://***@127.0.0.1:1" in failure["traceback"]
    assert made.paths is not None and "nobody answers" in made.warning
    wait_for(lambda: not live(home))
    monkeypatch.setenv("LEAKY_IMPORT", "1")
    again = submit(plan, 1, Code("leaky_tasks:execute", ""), retry=frozenset({"code"}))
    assert again.paths is not None
    wait_for(lambda: not live(home))
    logs = "".join(path.read_text() for path in again.paths.jobs.glob("*.err"))
    assert "ImportError: no driver for http://***@127.0.0.1:1" in logs
    assert "pool of http://***@" in "".join(path.read_text() for path in made.paths.jobs.glob("*.out"))
    assert_unseen(made.warning + "".join(capfd.readouterr()), "output")
    assert_clean(home.root)


def live(home: Home) -> bool:
    from ablative.sweeps.queue import manifest

    return any(live_jobs(paths, found) for paths, found in manifest.submissions(home))


@pytest.mark.parametrize(
    "uri",
    [
        BROKEN,
        "http://ann:m4rked/s3cret@127.0.0.1:1",
        "http://ann:m4rked@127.0.0.1:port",
        "https://127.0.0.1:1/?token=m4rked",
        "postgresql://ann:m4rked/s3cret@127.0.0.1:1/db",
        "postgresql://ann:m4rked@s3cret@127.0.0.1:1/db",
        "postgresql://ann:m4rked@127.0.0.1:1/db?sslpassword=s3cret",
        "postgresql+nodriver://ann:m4rked@127.0.0.1:1/db",
        "mysql://ann:m4rked@127.0.0.1:1/db",
    ],
)
def test_addresses_that_do_not_work(home: Home, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    from ablative.reports.store.database_store import open_store
    from ablative.reports.store.store_tables import StoreTables
    from ablative.sweeps.search.storage import open_storage
    from ablative.sweeps.tracking.store import prepare

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("OPTUNA_STORAGE", uri)
    attempts = {
        "ship": lambda: prepare(home, "study"),
        "report": lambda: open_store(uri).read("study", StoreTables(duckdb.connect())),
        "search": lambda: open_storage(SearchPaths(home.root / "search")),
    }
    for name, attempt in attempts.items():
        with pytest.raises(AblateError) as caught:
            attempt()
        assert_unseen(str(caught.value), name)


def test_tracebacks_of_the_command_line(home: Home, tmp_path: Path) -> None:
    write_study(tmp_path)
    program = [sys.executable, "-c", "from ablative.study.cli import main; main()", "--debug"]
    words = ["report", "tiny", "--config-dir", str(tmp_path)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": BROKEN}
    done = subprocess.run([*program, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr and "StoreError" in done.stderr
    assert_unseen(done.stdout + done.stderr, "traceback")
