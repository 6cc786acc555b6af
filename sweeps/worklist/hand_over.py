"""A list is dealt out to the elements of an array and handed over; what others have of it already is left to them."""

from __future__ import annotations

import getpass
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.core.packages import PACKAGES
from ablative.study.core.secrets import redact
from ablative.study.home.paths import Home, StudyPaths
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.queue import manifest, snapshot
from ablative.sweeps.queue.manifest import Array, Manifest
from ablative.sweeps.slurm import executor
from ablative.sweeps.submission.submit import new_stamp, prepare_home

ELEMENT = "ablative.sweeps.worklist.element"
JOBS = 32
"""Elements of an array, unless the call or the cluster says how many."""


@dataclass(frozen=True)
class Dealt:
    """What became of a list."""

    queued: int
    """Items that elements of earlier calls have, which run or wait."""
    elements: int
    """Elements that were handed over now; 0: nothing was left for them."""
    folder: str
    """What they print lies there; empty where there are none."""
    said: str
    """Last error of an earlier element that has ended; empty: none is known."""


def deal_out(home: Home, name: str, items: Sequence[str], entry: str, config: ClusterConfig, jobs: int) -> Dealt:
    """Have the jobs of an array call a function with each item; returns at once.

    Args:
        home: the home.
        name: of the list; what was dealt out under it before, and still runs or waits, is left out.
        items: what is to be done.
        entry: `module:function` of (item, home): it has to be harmless where an item was done before.
        config: where the jobs run.
        jobs: elements of the array; 0: as `config` says.

    Raises:
        ConfigError: the cluster is no SLURM, or would never start what the configuration asks for.
        NoRoom: limits on the user's jobs leave no place in the queue.
        AblateError: the array was refused, or the scheduler does not answer.
    """
    if config.kind != "slurm":
        raise ConfigError(
            f"cluster: '{config.name}' is of kind '{config.kind}'; a list is dealt out to the jobs of SLURM "
            "(cluster=slurm), or worked through on this machine (cluster=local)"
        )
    prepare_home(home)
    executor.invalidate_cache()
    paths = home.worklist(name)
    held, said = _earlier(paths)
    left = [item for item in items if item not in held]
    queued = len(items) - len(left)
    if not left:
        return Dealt(queued, 0, "", said)
    stamp = new_stamp()
    array = executor.list_array(config, left, jobs or config.jobs or JOBS, f"ablate.{name}.{stamp}", ELEMENT)
    return Dealt(queued, len(array.elements), _hand_over(home, paths, stamp, array, entry), said)


def _earlier(paths: StudyPaths) -> tuple[frozenset[str], str]:
    """Items that live elements have, and the last error of those that have ended; these are marked."""
    held: frozenset[str] = frozenset()
    said = ""
    for submission, found in manifest.submissions_of(paths):
        theirs = executor.held(submission, found)
        held |= theirs
        if not theirs:
            submission.ended.touch()
            said = said or executor.last_error_line(submission)
    return held, said


def _hand_over(home: Home, paths: StudyPaths, stamp: str, array: Array, entry: str) -> str:
    """Folder of what the array's elements print."""
    taken, commit = snapshot.take(home, ()), snapshot.commit(PACKAGES)
    submission = paths.submission(stamp)
    submission.root.mkdir(parents=True)
    Manifest(
        study="",
        executor="slurm",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=redact(shlex.join(["ablate", *sys.argv[1:]])),
        workers=len(array.elements),
        devices=(),
        snapshot=taken.digest,
        commit=commit.commit,
        dirty=commit.dirty,
        entry=entry,
        shipper="",
        heartbeat_seconds=0.0,
        stale_seconds=0.0,
        tasks=(),
        arrays=(array,),
        user=getpass.getuser(),
    ).write(submission)
    snapshot.write_patch(submission.patch, commit)
    try:
        executor.launch(home, submission, snapshot.environment(home, taken.digest, commit))
    except AblateError:
        submission.ended.touch()
        raise
    return str(submission.jobs)
