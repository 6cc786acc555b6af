"""Tables for people: counts by state, what runs and how far it is, what failed and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ablative.study.core.files import read_json
from ablative.study.plan.plan import Plan
from ablative.study.trainers import Progress
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.executors import executor, live_jobs, queue_summary
from ablative.sweeps.status.progress import read_progress, read_wait
from ablative.sweeps.status.task_states import Survey, TaskState

COLOURS = {
    "completed": "green",
    "diverged": "magenta",
    "running": "cyan",
    "failed": "red",
    "submitted": "blue",
    "eligible": "yellow",
    "waiting": "bright_black",
    "absent": "bright_black",
}
SHOWN_RUNNING = 16
SHOWN_FAILURES = 8


@dataclass(frozen=True)
class FailureGroup:
    """Failures with one cause at one place."""

    cause: str
    line: str
    """The traceback's last line."""
    states: tuple[TaskState, ...]


def failure_groups(survey: Survey) -> list[FailureGroup]:
    """Failed tasks by cause and fingerprint, the largest group first."""
    found: dict[tuple[str, str], list[TaskState]] = {}
    for state in survey.having("failed"):
        found.setdefault((state.cause, (state.detail or {}).get("fingerprint", "")), []).append(state)
    groups = [FailureGroup(cause, _last_line(states[0]), tuple(states)) for (cause, _), states in found.items()]
    return sorted(groups, key=lambda group: -len(group.states))


def notice(plan: Plan, survey: Survey) -> str:
    """Why no further task begins although there is work: stopped, or no worker left. Empty otherwise."""
    if survey.finished:
        return ""
    for paths, found in manifest.submissions(plan.home, plan.study.name):
        stopped = read_json(paths.stopped, {"reason": str})
        if stopped is not None:
            return f"stopped: {stopped['reason']}"
        # Where a part of a study was submitted, the rest waits for no worker.
        own = {task.task_id for task in found.tasks}
        open_tasks = any(state.task.task_id in own for state in survey.having("eligible"))
        if open_tasks and not live_jobs(paths, found):
            words = executor(found.executor).last_error_line(paths)
            return f"the workers are gone with work left{f': {words}' if words else ''}"
        return ""
    return ""


def overview(plan: Plan, survey: Survey, seconds_left: float | None = None) -> RenderableType:
    """The whole status display."""
    parts: list[RenderableType] = [_counts(plan, survey, seconds_left)]
    running = survey.having("running")
    if running:
        parts += [_running(running, plan), *(Text(text, style="yellow") for text in waits(plan, survey))]
    parts += [Text(text, style="yellow") for text in silences(survey)]
    groups = failure_groups(survey)
    if groups:
        parts.append(_failures(groups))
    scheduler = queue_summary(plan.home, plan.study.name)
    if scheduler and not survey.finished:
        parts.append(Text(scheduler))
    reason = notice(plan, survey)
    if reason:
        parts.append(Text(reason, style="red"))
    return Group(*parts)


def waits(plan: Plan, survey: Survey) -> list[str]:
    """A line for each of the first running tasks that wait for other processes of their run."""
    found = {state.task.task_id: read_wait(plan, state.task) for state in survey.having("running")[:SHOWN_RUNNING]}
    return [f"{task_id}: {text}" for task_id, text in found.items() if text]


def silences(survey: Survey) -> list[str]:
    """A line for each of the first tasks whose job or process is there and whose worker gives no sign of life."""
    found = []
    for state in [state for state in survey.having("running", "submitted") if state.silent_seconds][:SHOWN_RUNNING]:
        owner = state.owner
        where = f" on node {owner.node or owner.host}, job {owner.job}" if owner else ""
        found.append(
            f"{state.task.task_id}: no heartbeat for {state.silent_seconds:.0f} s{where}: its worker stands still, or "
            "its node is cut off or starts it again"
        )
    return found


def line(survey: Survey, seconds_left: float | None) -> str:
    """One plain line: `12/40 done, 2 running, 1 failed, 25 submitted; about 0:03:20 left`."""
    counts = survey.counts
    done = counts.get("completed", 0) + counts.get("diverged", 0)
    rest = [f"{count} {name}" for name, count in counts.items() if name != "completed"]
    left = f"; about {duration(seconds_left)} left" if seconds_left else ""
    return ", ".join([f"{done}/{len(survey.states)} done", *rest]) + left


def duration(seconds: float | None) -> str:
    """`h:mm:ss`, or a dash for an unknown time."""
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))


def _counts(plan: Plan, survey: Survey, seconds_left: float | None) -> Text:
    text = Text(f"{plan.study.name}: ", style="bold")
    for name, count in survey.counts.items():
        text.append(f"{count} {name}  ", style=COLOURS[name])
    text.append(f"of {len(survey.states)}", style="default")
    if seconds_left:
        text.append(f"  about {duration(seconds_left)} left")
    return text


def _running(states: Sequence[TaskState], plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    reports = [read_progress(plan, state.task) for state in states[:SHOWN_RUNNING]]
    shown = list(dict.fromkeys(name for report in reports if report for name in report.shown))
    numbers = [_cells(report, shown) for report in reports]
    # What is cut on a narrow terminal is the cell's name.
    table.add_column("running", no_wrap=True, min_width=max(len(state.task.task_id) for state in states))
    table.add_column("task")
    for heading, *column in zip(("done", *shown, "left"), *numbers, strict=True):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(map(len, (heading, *column))))
    for state, own in zip(states, numbers, strict=False):
        name = Text(state.task.name, no_wrap=True, overflow="ellipsis")
        table.add_row(state.task.task_id, name, *own)
    if len(states) > SHOWN_RUNNING:
        table.add_row("…", f"and {len(states) - SHOWN_RUNNING} more")
    return table


def _cells(report: Progress | None, shown: Sequence[str]) -> tuple[str, ...]:
    if report is None:
        return ("–",) * (len(shown) + 2)
    values = (report.shown.get(name, "–") for name in shown)
    return f"{report.done:g}/{report.total:g}", *values, duration(report.seconds_left)


def _failures(groups: Sequence[FailureGroup]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("failed", justify="right")
    table.add_column("cause", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("tasks", overflow="fold")
    for group in groups[:SHOWN_FAILURES]:
        ids = [state.task.task_id for state in group.states]
        names = " ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
        table.add_row(str(len(ids)), group.cause, Text(group.line), names)
    if len(groups) > SHOWN_FAILURES:
        table.add_row("…", "", f"and {len(groups) - SHOWN_FAILURES} more kinds")
    return table


def _last_line(state: TaskState) -> str:
    """`ValueError: what was wrong`, or where no exception was seen, what is known instead."""
    detail: dict[str, Any] = state.detail or {}
    message = str(detail.get("message") or "").partition("\n")[0]
    trace = str(detail.get("traceback") or "").strip()
    if trace and (kind := detail.get("type")):
        return f"{kind}: {message}" if message else str(kind)
    # A file without its exception's type: the last line of a traceback has it.
    return message or trace.rpartition("\n")[2] or "by the user"
