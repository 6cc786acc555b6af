"""`ablate doctor`: what this machine has and lacks, each line with what to do about it."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from study.errors import AblateError
from study.paths import Home
from sweeps import claims, local
from sweeps.submit import prepare_home

LOW_DISK_GIB = 2.0
LOW_MEMORY_GIB = 2.0
PACKAGES = ("torch", "mlflow", "submitit", "hydra", "duckdb", "tokenizers", "sklearn")
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
    checks: list[tuple[str, Callable[[Home], Check]]] = [
        ("python", _python),
        ("packages", _packages),
        ("device", _device),
        ("home", _home),
        ("claims", _claims),
        ("store", _store),
        ("disk", _disk),
        ("machine", _machine),
        ("data", _data),
        ("slurm", _slurm),
    ]
    for name, check in checks:
        try:
            yield check(home)
        except (AblateError, OSError) as error:
            yield Check(name, True, " ".join(str(error).split()))


def _python(_home: Home) -> Check:
    return Check("python", False, f"{platform.python_version()} ({sys.executable})")


def _packages(_home: Home) -> Check:
    from importlib.util import find_spec

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return Check("packages", True, f"not installed: {', '.join(missing)}; install ablate again: pip install -e .")
    return Check("packages", False, ", ".join(PACKAGES))


def _device(_home: Home) -> Check:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if not gpus and local.gpus():
        advice = "torch cannot use them: install the torch build for this driver (nvidia-smi shows its CUDA version)"
        return Check("device", True, f"torch {torch.__version__} sees no GPU although there are some; {advice}")
    return Check("device", False, f"torch {torch.__version__}, {', '.join(gpus) or 'CPU only'}")


def _home(home: Home) -> Check:
    prepare_home(home)
    return Check("home", False, str(home.root))


def _claims(home: Home) -> Check:
    """Exclusive creation and atomic replacement, which claims and records rest on."""
    path = home.root / f".doctor.{secrets.token_hex(4)}"
    first = claims.acquire(path, "doctor", 60.0)
    second = claims.acquire(path, "doctor", 60.0)
    other = path.with_name(path.name + ".new")
    other.write_text("new")
    os.replace(other, path)
    replaced = path.read_text() == "new"
    path.unlink()
    if first is None or second is not None or not replaced:
        advice = "put the home on another file system (local disk, NFS, Lustre)"
        return Check("claims", True, f"this file system creates or renames files without exclusion; {advice}")
    return Check("claims", False, "exclusive creation and atomic rename work in the home")


def _store(home: Home) -> Check:
    """Open the tracking store as a submission would, without adding an experiment to it."""
    from trainer.tracking import store
    from trainer.tracking.faults import faults
    from trainer.tracking.uri import redact, resolve, sqlite_path

    uri = resolve(home.tracking_uri)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        if not os.access(path.parent, os.W_OK):
            return Check("store", True, f"{path.parent} cannot be written; change MLFLOW_TRACKING_URI")
        return Check("store", False, f"{redact(uri)} (the first submission creates it)")
    prepared = [study.name for study in home.studies.glob("*") if home.study(study.name).tracking.exists()]
    if prepared:
        store.prepare(home, prepared[0])
    else:
        with store.quiet(uri), faults(uri):
            store.client(uri).search_experiments(max_results=1)
    return Check("store", False, f"{redact(uri)} answers")


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.root).free / GIB
    if free < LOW_DISK_GIB:
        advice = "checkpoints need more: free some, or point $ABLATE_HOME elsewhere"
        return Check("disk", True, f"{free:.1f} GiB free in {home.root}; {advice}")
    return Check("disk", False, f"{free:.1f} GiB free")


def _machine(_home: Home) -> Check:
    cores = local.cores()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    text = f"{cores} cores, {memory:.1f} GiB memory"
    if memory / cores < LOW_MEMORY_GIB / 2:
        return Check("machine", True, f"{text}: a worker needs about {LOW_MEMORY_GIB:.0f} GiB; limit them with --jobs")
    return Check("machine", False, text)


def _slurm(home: Home) -> Check:
    from sweeps.slurm import advice

    broken, text = advice.examine(home)
    return Check("slurm", broken, text)


def _data(_home: Home) -> Check:
    folder = os.environ.get("ABLATE_DATA")
    if not folder:
        return Check("data", False, "$ABLATE_DATA is not set; only studies over image-text shards need it")
    if not Path(folder).is_dir():
        return Check("data", True, f"$ABLATE_DATA={folder} is no folder; set it to where the shards lie, or unset it")
    entries = sum(1 for _ in Path(folder).iterdir())
    return Check("data", False, f"{folder} ({entries} entries)")
