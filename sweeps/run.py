"""`ablate run`: submit what is missing, watch until it is done, start workers again when they die."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from ablative.study.core.files import write_json
from ablative.study.core.plurals import counted
from ablative.study.home.paths import SubmissionPaths
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.executors import NoRoom, executor, live_jobs
from ablative.sweeps.status.task_states import Survey, survey
from ablative.sweeps.submission.submit import TRAINER, Choice, Code, Submission, submit

POLL_SECONDS = 1.0
RESTARTS = 3
"""How often workers are started again while no task gets done."""
ROOM_SECONDS = 30.0
"""How often to ask again for room in a scheduler's queue that was full."""
FLUSH_SECONDS = 30.0
"""How long to wait for workers that have nothing left but to ship their journals."""


@dataclass
class Watcher:
    """Waits for a plan's tasks; `show` displays a survey, `say` prints one line."""

    plan: Plan
    jobs: int
    show: Callable[[Survey], None]
    say: Callable[[str], None]
    code: Code = TRAINER
    own: list[SubmissionPaths] = field(default_factory=list)
    """Submissions that we made, and whose workers we stop on Ctrl-C."""
    _full_since: float = 0.0
    """When the scheduler was last asked in vain for room (monotonic); 0: it has taken all."""

    def run(self) -> Survey:
        """Submit, wait, and return the last states. KeyboardInterrupt is for the caller, who may `stop`."""
        first = self._submit()
        if first is not None:
            self._announce(first)
        restarts, done = 0, -1
        while True:
            now = survey(self.plan)
            self.show(now)
            if self._full_since:
                if time.monotonic() > self._full_since + ROOM_SECONDS:
                    self._again()
            elif not now.having("running", "submitted"):
                count = sum(state.finished for state in now.states)
                restarts, done = (restarts + 1, done) if count == done else (0, count)
                if not _unattended(now) or restarts >= RESTARTS or self._stopped() or not self._again():
                    break
            time.sleep(POLL_SECONDS)
        self._wait_for_end(FLUSH_SECONDS)
        if _unattended(now) and not self._stopped():
            self._report_dead_workers()
        return survey(self.plan)

    def stop(self) -> None:
        """Let our workers save and end; a KeyboardInterrupt while waiting for that kills them."""
        for paths in self.own:
            # For workers that are only just starting and would miss a signal.
            write_json(paths.stopped, {"reason": "interrupted by the user", "fingerprint": ""})
        try:
            self._signal(force=False)
            self._wait_for_end(float("inf"))
        except KeyboardInterrupt:
            self._signal(force=True)
            self._wait_for_end(FLUSH_SECONDS)

    def _submit(self) -> Submission | None:
        """None: the scheduler has no room for all of it; that is said once, and it is asked again later."""
        with _interrupt_deferred():
            try:
                made = submit(self.plan, self.jobs, self.code)
            except NoRoom as full:
                if full.taken is not None:
                    self.own.append(full.taken)
                if not self._full_since:
                    self.say(str(full))
                self._full_since = time.monotonic()
                return None
            self._full_since = 0.0
            if made.paths is not None:
                self.own.append(made.paths)
        return made

    def _again(self) -> bool:
        """Start workers for what dead ones left; false when there is nothing that we may start."""
        waited = bool(self._full_since)
        made = self._submit()
        if made is None or made.paths is None:
            return made is None
        self.say(describe(made) if waited else f"the workers are gone with work left: {describe(made)}")
        return True

    def _announce(self, made: Submission) -> None:
        if made.warning:
            self.say(made.warning)
        for text in made.notes:
            self.say(text)
        now = survey(self.plan)
        busy = len(now.having("running", "submitted"))
        if made.paths is not None:
            self.say(describe(made))
        elif busy:
            self.say(f"nothing to submit: waiting for {busy} tasks that were submitted before")
        elif now.finished:
            self.say(f"nothing to do: all {len(now.states)} tasks are done")
        for text in describe_left(made.choice):
            self.say(text)

    def _report_dead_workers(self) -> None:
        """Print the last error line of our newest submission's workers, which ended with work left."""
        for paths in self.own[-1:]:
            found = manifest.read(paths)
            words = executor(found.executor).last_error_line(paths) if found is not None else ""
            self.say(f"the workers are gone with work left: {words or f'their logs are in {paths.jobs}'}")

    def _stopped(self) -> bool:
        return any(paths.stopped.exists() for paths in self.own)

    def _signal(self, force: bool) -> None:
        for paths in self.own:
            found = manifest.read(paths)
            if found is not None:
                executor(found.executor).stop(live_jobs(paths, found), force)

    def _wait_for_end(self, seconds: float) -> None:
        """Wait until our workers are gone; they ship what is left in the journals."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(self._alive(paths) for paths in self.own):
            time.sleep(0.1)

    def _alive(self, paths: SubmissionPaths) -> bool:
        found = manifest.read(paths)
        return found is not None and bool(live_jobs(paths, found))


def describe(made: Submission) -> str:
    """`submitted 40 tasks to 2 workers`."""
    return f"submitted {counted(len(made.choice.new), 'task')} to {counted(made.workers, 'worker')}"


def describe_left(choice: Choice) -> list[str]:
    """What was not submitted although it is not done, and how to change that."""
    texts = []
    cancelled = sum(state.cause == "cancelled" for state in choice.left)
    spent = Counter(state.cause for state in choice.left if state.resumable)
    failed = len(choice.left) - cancelled - spent.total()
    if failed:
        texts.append(f"left {failed} failed under this same code; `ablate retry` submits them all the same")
    if spent:
        causes = ", ".join(f"{count} {cause}" for cause, count in spent.items())
        texts.append(f"left what failed again and again ({causes}); `ablate retry` submits it all the same")
    if cancelled:
        texts.append(f"left {cancelled} cancelled; `ablate retry --cause cancelled` brings them back")
    return texts


def _unattended(now: Survey) -> bool:
    """Whether some task could run and no worker is left to run it."""
    blocked = now.blocked({state.task.task_id for state in now.having("failed")})
    waiting = (state for state in now.having("waiting") if state.task.task_id not in blocked)
    return any(state.state == "eligible" or state.abandoned for state in now.states) or any(waiting)


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Let Ctrl-C wait until the block is over: workers that were started must be known."""
    caught: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        caught.append(number)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt
