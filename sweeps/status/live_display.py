"""What `run` and `status` show while time passes: a live table on a terminal, else a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live

from ablative.study.cli import console_for
from ablative.study.costs.usage import total
from ablative.study.plan.plan import Plan
from ablative.sweeps.status import render
from ablative.sweeps.status.progress import seconds_left
from ablative.sweeps.status.task_states import Survey, task_usage

PLAIN_SECONDS = 10.0
"""Between two plain lines."""


class Display:
    """Shows surveys of a plan; a context manager where they follow one another."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.console = Console(highlight=False)
        self._live: Live | None = None
        self._told = 0.0
        self._last = ""

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, states: Survey) -> None:
        """Show where things stand; called about once a second."""
        left = seconds_left(states, self.plan)
        if self._live is not None:
            self._live.update(render.overview(self.plan, states, left), refresh=True)
            return
        if states.finished or time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            text = "; ".join([render.line(states, left), *render.waits(self.plan, states)])
            if text != self._last:
                self._last = text
                print(text, flush=True)

    def say(self, text: str) -> None:
        """One line above the table, or among the plain lines."""
        if self._live is not None:
            self.console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def summary(self, states: Survey) -> None:
        """Where things stand and what they have cost, once."""
        shown = render.overview(self.plan, states)
        console_for(shown, highlight=False).print(shown)
        words = total(task_usage(states, self.plan.home).values()).describe()
        if words:
            self.console.print(f"spent: {words}", markup=False)
