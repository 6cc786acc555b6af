"""The compute statement for a paper's checklist: hardware, time per run and in all, versions, runs and seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablative.reports.tables.escape import comment, latex, markdown
from ablative.study.core.plurals import counted
from ablative.study.costs.usage import ENERGY_METHOD, amount

if TYPE_CHECKING:
    from ablative.reports.costs.environment import EnvironmentCounts
    from ablative.reports.store.results import Results
    from ablative.reports.store.warehouse import Warehouse

FACTS = ("code", "device", "host", "python")
"""Facts of an environment that are no versions of packages."""


def compute_items(results: Results, environment: EnvironmentCounts, total: str) -> tuple[tuple[str, str], ...]:
    """What is asked -> the answer, as far as it was recorded; nothing before anything has run.

    `total`: `stage_costs.statement`, empty before anything has run.
    """
    if not total:
        return ()
    plan, counts = results.plan, results.coverage.counts()
    finished = counts.get("completed", 0) + counts.get("diverged", 0)
    facts = dict(environment)
    devices = [f"{name} ({counted(count, 'task')})" for name, count in facts.get("device", ())]
    hosts = len(facts.get("host", ()))
    machines = f", on {counted(hosts, 'machine')}" if hosts else ""
    # A search's trials alone may have run: they are no planned tasks.
    commits = facts.get("code", ())
    code = [f"{_version(commit)} ({counted(n, 'task')})" for commit, n in commits]
    packages = [f"{name} {_versions(found)}" for name, found in facts.items() if name not in FACTS]
    python = [f"Python {_versions(facts['python'])}"] if "python" in facts else []
    seeds = ", ".join(map(str, plan.study.seeds))
    items = {
        "Hardware": ", ".join(devices) + machines if devices else "not recorded in this home",
        "Runs": f"{counted(len(plan.runs), 'run')} ({counted(len(plan.cells), 'cell')}, seeds {seeds}), "
        f"{finished} of {counted(sum(counts.values()), 'planned task')} finished",
        "Hours for each task": "; ".join(_spans(results.warehouse)),
        "In all": total,
        "Energy": ENERGY_METHOD,
        "Software": ", ".join([*python, *packages]) or "not recorded in this home",
        "Code": ", ".join(code) or "not recorded in this home",
    }
    return tuple(items.items())


def _version(commit: str) -> str:
    """The commit in short, as `environment` has it; empty: the code was in no repository."""
    return f"{commit[:10]}{'-dirty' * commit.endswith('-dirty')}" if commit else "in no repository"


def render_compute_markdown(study: str, items: tuple[tuple[str, str], ...]) -> str:
    lines = [f"- **{name}**: {markdown(text)}" for name, text in items]
    return "\n".join([f"### Compute of {markdown(study)}", "", *lines]) + "\n"


def render_compute_latex(study: str, items: tuple[tuple[str, str], ...]) -> str:
    lines = [rf"\item[{name}] {latex(text)}" for name, text in items]
    head = ["% no packages", f"% compute of study {comment(study)}", r"\begin{description}\raggedright"]
    return "\n".join([*head, *lines, r"\end{description}"]) + "\n"


def _spans(warehouse: Warehouse) -> list[str]:
    """`train 0.21 (0.11 to 0.32)`: mean, least and most hours by the clock of each stage's tasks."""
    return [
        f"{stage} {amount(mean)}" + (f" ({amount(low)} to {amount(high)})" if low != high else "")
        for stage, mean, low, high in warehouse.rows(_HOURS)
    ]


def _versions(found: tuple[tuple[str, int], ...]) -> str:
    return " and ".join(version for version, _ in found)


_HOURS = """
    with done as (
        select stage, task_id = run_id as opens, seconds / 3600 as hours
        from cost where planned and seconds is not null and state in ('completed', 'diverged')
    )

    select stage, avg(hours), min(hours), max(hours) from done group by stage order by not bool_or(opens), stage
"""
