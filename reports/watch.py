"""`ablate report --watch`: the page is written again and again while tasks run, and loads itself again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from ablative.reports.build import ReportOptions, report
from ablative.study.home.task_state import FINISHED
from ablative.study.plan.plan import Plan

SECONDS = 10
"""The least time between two pages."""
SHARE = 10
"""A page is written after this many times the seconds of one core that writing one takes."""


def watch(load: Callable[[], Plan], sync: Callable[[Plan], int], folder: Path, seconds: int = SECONDS) -> None:
    """Write the page into `folder` until every task is finished, or waits in vain for one that diverged, or Ctrl-C.

    `load`: the plan as it is now, which grows where a search finds levels. `sync`: uploads what waits in journals, and
    returns how many tasks still have entries.
    """
    said, least, first = "", seconds, True
    try:
        while True:
            began, clock = time.process_time(), time.monotonic()
            plan = load()
            counts = report(plan, folder, ("html",), ReportOptions(pending=sync(plan), refresh=seconds)).counts
            line = f"{plan.study.name}: {', '.join(f'{count} {state}' for state, count in counts.items())}"
            if line != said:
                click.echo(f"{time.strftime('%H:%M:%S')} {line}; {folder / 'index.html'}", err=True)
            said = line
            if not going_on(counts):
                return
            # The first page also loads the libraries, and on a busy machine the clock says nothing about its work.
            taken = 0.0 if first else time.process_time() - began
            seconds, first = max(least, math.ceil(SHARE * taken)), False
            time.sleep(max(0.0, seconds - (time.monotonic() - clock)))
    except KeyboardInterrupt:
        click.echo("no longer watched; the whole report is written once more", err=True)


def going_on(counts: Mapping[str, int]) -> bool:
    """Whether something may still come; tasks that failed may be retried.

    >>> going_on({"completed": 3, "running": 1}), going_on({"completed": 3, "diverged": 1, "waiting": 2})
    (True, False)
    """
    return not set(counts) <= {*FINISHED, "waiting"} or not set(counts) & set(FINISHED)
