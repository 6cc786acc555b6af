"""What an array element runs of a list: the function for each of its items, on as many threads as it has cores.

Nothing is kept of an item but what the function leaves, so that an element which is killed loses the items that it
was at, and another that has them again passes over what is done. USR2 comes some time before the time limit: the items
at hand are finished, and the element is put back into the queue. TERM carries no reason: the element goes on until it
is killed, since one that ends by itself is not requeued after a preemption.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ablative.study.core.errors import AblateError, DataError
from ablative.study.core.registry import load
from ablative.study.core.secrets import guard, redact
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.sweeps.queue import manifest, snapshot
from ablative.sweeps.slurm.element import requeue
from ablative.sweeps.worker.print_safely import say


def work(home: Home, submission: SubmissionPaths, name: str) -> int:
    """Exit code: 0 where all items are done."""
    received: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: received.append(number))
    signal.signal(signal.SIGTERM, lambda number, _: say("SIGTERM: goes on until it is killed"))
    queue = manifest.require(submission)
    array = next(found for found in queue.arrays if found.name == name)
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{index}"
    items = array.elements[index]
    say(f"element {job} on {socket.gethostname()}: {len(items)} items")
    call: Callable[[str, Home], object] = load(queue.entry)

    def one(item: str) -> bool | None:
        """Whether it is done; None: it was not begun."""
        if received:
            return None
        try:
            call(item, home)
        except DataError as error:
            say(redact(str(error)), sys.stderr)
            return False
        return True

    with ThreadPoolExecutor(int(array.cluster["cpus"])) as pool:
        ended = list(pool.map(one, items))
    say(f"element {job}: {ended.count(True)} done, {ended.count(False)} failed, {ended.count(None)} left")
    if None in ended:
        return _leave(job, int(array.cluster["requeues"]))
    return int(not all(ended))


def _leave(job: str, limit: int) -> int:
    """Back into the queue after the scheduler's warning; where that cannot be, the next call hands the rest over."""
    if int(os.environ.get("SLURM_RESTART_COUNT") or 0) < limit and requeue(job):
        return 0
    say("stopped at the time limit: the same command hands over what is left", sys.stderr)
    return 1


if __name__ == "__main__":
    guard()
    given = Home(Path(sys.argv[1]))
    snapshot.require(given)
    try:
        code = work(given, SubmissionPaths(Path(sys.argv[2])), sys.argv[3])
    except AblateError as failure:
        say(redact(str(failure)), sys.stderr)
        code = 1
    sys.exit(code)
