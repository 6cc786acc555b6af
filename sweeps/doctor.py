"""`ablate doctor`: what this machine has and lacks, each line with what to do about it."""

from __future__ import annotations

import email.utils
import fcntl
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ablative.study.core.errors import AblateError, StoreError
from ablative.study.core.extras import EXTRAS, install_command, missing
from ablative.study.core.http_settings import request_settings
from ablative.study.core.registry import TORCH_DEVICES, load
from ablative.study.core.secrets import without_user
from ablative.study.costs.devices import driver_version
from ablative.study.home import tracking_tags
from ablative.study.home.paths import Home
from ablative.sweeps.queue import leases
from ablative.sweeps.submission import local
from ablative.sweeps.submission.submit import prepare_home
from ablative.sweeps.upkeep import checks

LOW_DISK_GIB = 2.0
LOW_FILES = 10_000
"""Free files below which the disk is reported: each run leaves a few dozen."""
LOW_MEMORY_GIB = 2.0
MOST_SKEW_SECONDS = 5.0
"""Workers of other machines are judged by the age of their heartbeats, which come this often."""
ANSWER_SECONDS = 8.0
PACKAGES = ("mlflow", "submitit", "hydra", "duckdb", "optuna")
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    broken: bool
    text: str
    """What was found; where something is broken, what to do."""


def examine(home: Home) -> Iterator[Check]:
    """Run every check; one that raises is broken and says why."""
    lines: list[tuple[str, Callable[[Home], Check | None]]] = [
        ("python", _python),
        ("packages", _packages),
        ("extras", _extras),
        ("device", _device),
        ("home", _home),
        ("files", lambda home: Check("files", *checks.damage(home))),
        ("rights", lambda home: Check("rights", *checks.rights(home))),
        ("room", lambda home: Check("room", *checks.room(home))),
        ("leases", _leases),
        ("locks", _locks),
        ("clock", _clock),
        ("store", _store),
        ("disk", _disk),
        ("machine", _machine),
        ("data", _data),
        ("slurm", _slurm),
        ("limits", _limits),
        ("shared", _shared),
    ]
    for name, check in lines:
        try:
            found = check(home)
            if found is not None:
                yield found
        except (AblateError, OSError) as error:
            yield Check(name, True, " ".join(str(error).split()))


def _python(_home: Home) -> Check:
    return Check("python", False, f"{platform.python_version()} ({sys.executable})")


def _packages(_home: Home) -> Check:
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        return Check("packages", True, f"not installed: {', '.join(absent)}; install ablate again: pip install -e .")
    return Check("packages", False, ", ".join(PACKAGES))


def _extras(_home: Home) -> Check:
    """Which extras are installed; none is an error, since a machine may only plan and report."""
    lines = []
    for name, extra in EXTRAS.items():
        absent = missing(name)
        lines.append(
            f"{name} ({', '.join(extra.modules)})"
            if not absent
            else f"without {extra.purpose} ({install_command(name)})"
        )
    return Check("extras", False, "; ".join(lines))


def _device(_home: Home) -> Check | None:
    if find_spec("torch") is None:
        return None
    version, gpus = load(TORCH_DEVICES)()
    if not gpus and local.gpus():
        advice = "torch cannot use them: install the torch build for this driver (nvidia-smi shows its CUDA version)"
        return Check("device", True, f"torch {version} sees no GPU although there are some; {advice}")
    driver = f", driver {driver_version()}" if driver_version() else ""
    return Check("device", False, f"torch {version}, {', '.join(gpus) or 'CPU only'}{driver}")


def _home(home: Home) -> Check:
    prepare_home(home)
    return Check("home", False, str(home.root))


def _leases(home: Home) -> Check:
    """Whether the home's file system creates exclusively and replaces atomically, as leases and records need."""
    path = home.root / f".doctor.{secrets.token_hex(4)}"
    first = leases.acquire(path, "doctor", 60.0)
    second = leases.acquire(path, "doctor", 60.0)
    other = path.with_name(path.name + ".new")
    other.write_text("new")
    os.replace(other, path)
    replaced = path.read_text() == "new"
    path.unlink()
    if first is None or second is not None or not replaced:
        advice = "put the home on another file system (local disk, NFS, Lustre)"
        return Check("leases", True, f"this file system creates or renames files without exclusion; {advice}")
    return Check("leases", False, "exclusive creation and atomic rename work in the home")


def _locks(home: Home) -> Check:
    """Whether record locks work, which SQLite needs: another process must be refused while this one holds a lock."""
    path = home.root / f".doctor.{secrets.token_hex(4)}"
    attempt = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    try:
        with path.open("w+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            command = [sys.executable, "-S", "-c", attempt, str(path)]
            taken = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError as error:
        return Check("locks", True, f"locks in the home do not work ({error.strerror}): {_ELSEWHERE}")
    finally:
        path.unlink(missing_ok=True)
    if taken:
        return Check("locks", True, f"two processes can hold the same lock in the home: {_ELSEWHERE}")
    return Check("locks", False, "a lock in the home keeps other processes out")


_ELSEWHERE = (
    "SQLite needs them; have the file system mounted with locks, put the home on another one, or track on a server "
    "(MLFLOW_TRACKING_URI=http://…)"
)


def _clock(home: Home) -> Check:
    """Whether this machine's clock agrees with those of the home's file system and of the tracking server."""
    from ablative.sweeps.tracking.uri import is_http

    path = home.root / f".doctor.{secrets.token_hex(4)}"
    path.touch()
    clocks = {"the home's file system": path.stat().st_mtime - time.time()}
    path.unlink()
    if is_http(home.tracking_uri) and (server := _server_clock(home.tracking_uri)) is not None:
        clocks["the tracking server"] = server
    wrong = [f"{name} is {skew:+.0f} s off" for name, skew in clocks.items() if abs(skew) > MOST_SKEW_SECONDS]
    if wrong:
        advice = "have the clocks set (NTP, chrony): leases of other machines are judged by their age"
        return Check("clock", True, f"{'; '.join(wrong)}; {advice}")
    return Check("clock", False, f"agrees with {' and '.join(clocks)}")


def _server_clock(uri: str) -> float | None:
    """Seconds that a server's clock is ahead of this machine's; None where its answer has no date."""
    import requests

    address, user, password = without_user(uri)
    try:
        answer = requests.head(address, timeout=ANSWER_SECONDS, **request_settings(user, password))
    except (OSError, ValueError, StoreError):
        return None  # whether it can be reached is for the store's line to say
    date = answer.headers.get("Date")
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time() if date else None


def _store(home: Home) -> Check:
    """Open the tracking store as a submission would, and write to it, without adding an experiment to it."""
    from ablative.sweeps.tracking import store
    from ablative.sweeps.tracking.faults import faults
    from ablative.sweeps.tracking.quiet import quiet
    from ablative.sweeps.tracking.uri import redact_store, resolve, sqlite_path

    uri = resolve(home.tracking_uri)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        if not os.access(path.parent, os.W_OK):
            return Check("store", True, f"{path.parent} cannot be written; change MLFLOW_TRACKING_URI")
        return Check("store", False, f"{redact_store(uri)} (the first submission creates it)")
    prepared = [study.name for study in home.studies.glob("*") if home.study(study.name).tracking.exists()]
    experiment = store.prepare(home, prepared[0]).id if prepared else None
    if path is None:
        with quiet(uri), faults(uri):
            client = store.client(uri)
            # MLflow creates an experiment with each store.
            number = experiment or next(one.experiment_id for one in client.search_experiments())
            client.set_experiment_tag(number, tracking_tags.DOCTOR, f"{time.time():.0f}")
        return Check("store", False, f"{redact_store(uri)} answers, and can be written")
    return Check("store", False, f"{redact_store(uri)} can be written")


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.root).free / GIB
    if free < LOW_DISK_GIB:
        advice = "checkpoints need more: free some, or point $ABLATE_HOME elsewhere"
        return Check("disk", True, f"{free:.1f} GiB free in {home.root}; {advice}")
    status = os.statvfs(home.root)
    # A file system without such a limit reports 0 of 0.
    if status.f_files and status.f_favail < LOW_FILES:
        advice = "delete some (runs that are no longer needed), ask for a higher quota, or point $ABLATE_HOME elsewhere"
        return Check("disk", True, f"room for only {status.f_favail} more files in {home.root}; {advice}")
    return Check("disk", False, f"{free:.1f} GiB free")


def _machine(_home: Home) -> Check:
    cores = local.cores()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    text = f"{cores} cores, {memory:.1f} GiB memory"
    if memory / cores < LOW_MEMORY_GIB / 2:
        return Check("machine", True, f"{text}: a worker needs about {LOW_MEMORY_GIB:.0f} GiB; limit them with --jobs")
    return Check("machine", False, text)


def _slurm(_home: Home) -> Check:
    from ablative.sweeps.slurm import advice

    return Check("slurm", *advice.examine())


def _limits(_home: Home) -> Check | None:
    from ablative.sweeps.slurm import advice, cluster

    return Check("limits", False, advice.limits(cluster.inspect())) if advice.answers() else None


def _shared(home: Home) -> Check | None:
    from ablative.sweeps.slurm import advice, cluster

    if not advice.answers():
        return None
    return Check("shared", *advice.shared(cluster.inspect(), home.root, advice.file_system(home.root)))


def _data(_home: Home) -> Check:
    folder = os.environ.get("ABLATE_DATA")
    if not folder:
        return Check("data", False, "$ABLATE_DATA is not set; only studies over data in files need it")
    if not Path(folder).is_dir():
        return Check("data", True, f"$ABLATE_DATA={folder} is no folder; set it to where the data lie, or unset it")
    entries = sum(1 for _ in Path(folder).iterdir())
    return Check("data", False, f"{folder} ({entries} entries)")
