"""Real servers for tests: PostgreSQL in a temporary folder, and MLflow's own server. No fakes.

Both listen on a free port of 127.0.0.1, are waited for with a limit, and can be killed and started again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg2
import shared
from missing import missing

START_SECONDS = 240.0
PASSWORD = "s3cr:t/"
"""Of the test database: with characters that a URI must escape and a message must not show."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until true; fails the test after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.05)


@contextlib.contextmanager
def ended_without_us(*command: str) -> Iterator[None]:
    """If this process dies in the block, the command is run: no server is left behind by a crash."""
    watcher = shared.run_after(os.getpid(), *command)
    try:
        yield
    finally:
        os.killpg(watcher.pid, signal.SIGKILL)
        watcher.wait()


class MlflowServer:
    """MLflow's tracking server over a store; `kill` is SIGKILL to all of its processes, `start` brings it back.

    It is the process that `mlflow server` starts, without that launcher, which imports MLflow a second time; or what
    the README says, at an address of the test's.
    """

    def __init__(self, store_uri: str, folder: Path, words: str = "") -> None:
        """`words`: options to add to the README's command, which is started then; `--workers 4` is MLflow's default."""
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._store, self._folder = store_uri, folder
        self._command = [sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app"]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port)]
        if words:
            line = documented_server().replace("$(hostname)", "127.0.0.1").replace("5000", str(self.port))
            self._command = ["bash", "-c", f"exec {line} {words}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Start it unless it runs already, and wait until it answers."""
        if self._process is None:
            environment = {
                **os.environ,
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "MLFLOW_BACKEND_STORE_URI": self._store,
                "_MLFLOW_SERVER_FILE_STORE": self._store,
                "_MLFLOW_SERVER_ARTIFACT_ROOT": str(self._folder / "artifacts"),
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "DO_NOT_TRACK": "true",
            }
            environment.pop("MLFLOW_TRACKING_URI", None)
            with (self._folder / "server.log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._stack.enter_context(ended_without_us("kill", "-KILL", "--", f"-{self._process.pid}"))
        try:
            wait_until(self._answers, START_SECONDS, f"mlflow server (see {self._folder}/server.log)")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._stack.close()
            self._process = None

    def pause(self) -> None:
        """Still listens, never answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mlflow server ended; see {self._folder}/server.log"
        try:
            # Not /health: the first request that needs the store takes seconds, and would be a test's.
            with urllib.request.urlopen(
                f"{self.uri}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=9
            ) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as refused:
            # It asks for a user and a password.
            return refused.code == 401
        except (urllib.error.URLError, OSError):
            return False


def documented_server() -> str:
    """The documented command that starts a tracking server."""
    page = (Path(__file__).parents[1] / "docs" / "mlflow.md").read_text()
    (line,) = (line for line in page.splitlines() if line.startswith("mlflow server --host"))
    return line.partition("  #")[0]


def postgres_binaries() -> Path:
    """Debian's server programs; skips the test where there are none, and fails it where env CI is set."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    if shutil.which("initdb"):
        return Path(shutil.which("initdb") or "").resolve().parent
    missing("PostgreSQL is not installed: bash tests/install-services.sh")


@contextlib.contextmanager
def postgres(folder: Path, password: str = PASSWORD) -> Iterator[str]:
    """The URI of a new database, with a user and a password of its own.

    All processes of a run of the tests share one server, which ends with the run; elsewhere (benchmarks) a server in
    `folder` ends with the block.
    """
    with contextlib.ExitStack() as stack:
        if shared.FOLDER in os.environ:
            port = int(shared.once("postgres.port", _start_shared_postgres).read_text())
        else:
            port = start_postgres(folder)
            stack.callback(subprocess.run, stop_postgres(folder), check=True, capture_output=True)
        name = f"test_{secrets.token_hex(6)}"
        with contextlib.closing(psycopg2.connect(_address("ablate", PASSWORD, port, "postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD %s", (password,))
                cursor.execute(f"CREATE DATABASE {name} OWNER {name}")
        yield _address(name, password, port, name)


def start_postgres(folder: Path) -> int:
    """Start a new PostgreSQL server with its data in `folder`; returns its port."""
    programs, port = postgres_binaries(), free_port()
    data = folder / "postgres"
    data.mkdir(parents=True)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    user = _unprivileged(data, secret)
    base = [*user, str(programs / "initdb"), "-D", str(data), "-U", "ablate", "--no-sync", "-A", "scram-sha-256"]
    subprocess.run([*base, f"--pwfile={secret}", "-E", "UTF8"], check=True, capture_output=True, cwd=data)
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
    start = [*user, str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(data / "log"), "-w", "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=data)
    return port


def stop_postgres(folder: Path) -> list[str]:
    """The command that ends the server at once."""
    data = folder / "postgres"
    return [*_unprivileged(), str(postgres_binaries() / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop"]


def _start_shared_postgres(path: Path) -> None:
    """Start the run's server, write its port to `path`, and have it end with the run, however that ends."""
    folder = shared.folder() / "postgresql"
    port = start_postgres(folder)
    shared.at_the_end(*stop_postgres(folder))
    path.write_text(str(port))


def _address(user: str, password: str, port: int, database: str) -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def _unprivileged(*owned: Path) -> list[str]:
    """Command prefix that leaves root, which PostgreSQL refuses to run as; empty for anybody else."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    for path in owned:
        os.chown(path, user.pw_uid, user.pw_gid)
        for parent in path.parents:
            # pytest's temporary folders are private to their owner; passing through is enough.
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
