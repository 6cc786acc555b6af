"""A study's claims with the runs behind each verdict, and the runs that would decide it."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablative.reports.stats.compare import ESTIMANDS
from ablative.reports.stats.decide import holm
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import Source, Values, cell_key, value_query
from ablative.reports.verdicts.claims import CellValues, ClaimResult, Part, evaluate, without_result
from ablative.study.core.errors import ConfigError
from ablative.study.core.plurals import counted
from ablative.study.costs.budget import claim_stages, restrict
from ablative.study.costs.estimate import estimated
from ablative.study.home.task_state import FINISHED
from ablative.study.plan.outputs.claim_cells import level_of
from ablative.study.spec.claim_grammar import relabelled
from ablative.study.spec.design import Cell, cell_name
from ablative.study.spec.labels import Label, joined

if TYPE_CHECKING:
    from ablative.study.spec.outputs import ClaimConfig

MOST_SEEDS = 20
"""Beyond this many further seeds, a claim is called out of reach and no runs are planned for it."""


@dataclass(frozen=True)
class Remedy:
    """What would decide a claim."""

    text: str
    """The need in words; empty for a claim that is decided."""
    runs: tuple[str, ...] = ()
    """Names of the tasks to be run: unfinished ones of the plan, or runs with further seeds."""
    command: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, the runs behind it and those that would decide it."""

    result: ClaimResult
    remedy: Remedy
    runs: tuple[tuple[str, tuple[Source, ...]], ...] = ()
    """Name of each cell that it is about, and what each of its seeds contributes: the mean over the claim's tasks."""
    stages: tuple[str, ...] = ()
    """The stages that yield its metrics."""
    unit: str = ""
    """The unit of its effects; empty: none, or several."""
    holm: float | None = None
    """p of the verdict, adjusted by Holm for all claims of the study; None for an undecided and an exact claim."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The claim's statement, those of its comparisons, and metrics → how each is printed."""
    broken: str = ""
    """Why it could not be judged; empty: it was."""

    @property
    def text(self) -> str:
        """The claim in words; one without words is its statement."""
        config = self.result.config
        return config.text or self.texts.get(config.statement, config.statement)

    @property
    def query(self) -> str:
        """The query of one cell's numbers, with the parameter `$cell`."""
        return value_query(self.result.metrics)


def judge_claims(results: Results, names: Sequence[str] | None = None) -> tuple[Judged, ...]:
    """The claims of the study (all, or those of these names), with one query for all; each counts among all.

    A claim that cannot be judged is undecided and says why (`Judged.broken`).
    """
    claims = results.study.claims
    metrics = {name: results.coverage.expected(claim.metric) for name, claim in claims.items()}
    singles = sorted({(metric,) for names in metrics.values() for metric in names})
    keys = [cell_key(cell) for cell in results.cells]
    values = results.warehouse.values([*singles, *metrics.values()], keys)
    judged = {name: _judge_or_say(results, name, claim, metrics[name], values) for name, claim in claims.items()}
    adjusted = holm([_among_others(each.result) for each in judged.values()])
    return tuple(
        dataclasses.replace(each, holm=None if each.result.p is None else p)
        for (name, each), p in zip(judged.items(), adjusted, strict=True)
        if names is None or name in names
    )


def _among_others(result: ClaimResult) -> float:
    """p for Holm's adjustment: an undecided claim counts as one claim more, one that no test has decided does not."""
    if result.exact:
        return math.nan
    return 1.0 if result.p is None else result.p


def _judge_or_say(results: Results, name: str, claim: ClaimConfig, metrics: tuple[str, ...], values: Values) -> Judged:
    try:
        return _judge(results, name, claim, metrics, values)
    except ConfigError as error:
        part = without_result(claim)
        result = ClaimResult(name, claim, part.verdict, (part,), metrics, ())
        return Judged(result, Remedy(f"This claim could not be judged: {error}"), broken=str(error))


def _judge(results: Results, name: str, claim: ClaimConfig, metrics: tuple[str, ...], values: Values) -> Judged:
    by_cell = _cell_values(results.cells, metrics, values)
    measures = results.coverage.measures
    exact = measures.exact(metrics)
    study = results.study
    result = evaluate(name, claim, study.factors, results.cells, metrics, by_cell, exact, study.paired)
    lookup = values.of(metrics)
    runs = tuple((cell_name(cell), lookup(cell_key(cell))) for cell in result.cells)
    stages = measures.stages_of(metrics)
    unit = measures.difference_unit(metrics)
    return Judged(result, _remedy(results, result, stages), runs, stages, unit, texts=_texts(results, result))


def _texts(results: Results, result: ClaimResult) -> Mapping[str, str]:
    """How the statements of its comparisons are printed, and the metrics on which each must hold."""
    factors, labels = results.study.factors, results.labels
    owners: dict[str, set[str]] = {}
    for factor, level in ((factor, level) for factor, levels in factors.items() for level in levels):
        owners.setdefault(labels.level(factor, level), set()).add(factor)

    def printed(word: str) -> Label:
        factor, level = level_of(word, factors, "")
        text = labels.level(factor, level)
        # Levels of two factors that are printed alike are distinguished by their factors.
        return text if len(owners[text]) == 1 else joined(": ", [labels.factor(factor), text])

    tasks = {part.task: labels.metric(part.task) for part in result.parts if part.task}
    statements = (result.config.statement, *(part.text for part in result.parts))
    return {statement: relabelled(statement, printed) for statement in statements} | tasks


def _cell_values(cells: Sequence[Cell], metrics: Sequence[str], values: Values) -> CellValues:
    found: dict[str, dict[str, Mapping[int, float]]] = {cell_key(cell): {} for cell in cells}
    for metric in metrics:
        lookup = values.of((metric,))
        for key, arm in found.items():
            arm[metric] = {source.seed: source.value for source in lookup(key)}
    return found


def _remedy(results: Results, result: ClaimResult, stages: Sequence[str]) -> Remedy:
    """First a search that cells wait for, then what is planned and not finished, then further seeds for the spread."""
    if result.verdict != "undecided":
        return Remedy("")
    known = results.plan.waiting
    waiting = [known[name] for name in map(cell_name, result.cells) if name in known]
    if waiting:
        reason, _, command = waiting[0].rpartition(": ")
        verb = "waits" if len(waiting) == 1 else "wait"
        return Remedy(f"{counted(len(waiting), 'cell')} {verb}: {reason}", (), command)
    behind = [
        state
        for cell in result.cells
        for state in results.coverage.behind(cell_key(cell), stages)
        if state.state not in FINISHED
    ]
    if behind:
        names = tuple(dict.fromkeys(state.task.name for state in behind))
        own = "" if result.config.estimand == ESTIMANDS[1] else f" --for {shlex.quote(result.name)}"
        words = f"{counted(len(names), 'planned task')} {'is' if len(names) == 1 else 'are'} not finished"
        return Remedy(words, names, f"ablate run {results.plan.asked}{own}")
    return _more_seeds(results, result)


def _more_seeds(results: Results, result: ClaimResult) -> Remedy:
    plan = results.plan
    open_parts = [part for part in result.parts if part.verdict == "undecided" and part.seeds is not None]
    reasons = [part.seeds.reason for part in open_parts if part.seeds and part.seeds.n is None]
    if result.config.estimand == ESTIMANDS[1] or (reasons and result.n_seeds > 1):
        return Remedy(reasons[0] if reasons else "")
    if not result.n_seeds:
        return Remedy("no seed has every task in every cell")
    wanted = max((part.seeds.n for part in open_parts if part.seeds and part.seeds.n), default=2)
    # Seeds of the plan that diverged are no help, and as many planned ones as there are have been looked at.
    further = max(1, wanted - result.n_seeds)
    if further > MOST_SEEDS:
        return Remedy(f"{further} further seeds: out of reach")
    seeds = _next_seeds(plan.study.seeds, further)
    aim = "for a first interval" if result.n_seeds == 1 else f"{open_parts[0].seeds.reason}"  # type: ignore[union-attr]
    runs = tuple(f"{cell_name(cell)} seed={seed}" for cell in result.cells for seed in seeds)
    listed = ",".join(map(str, (*plan.study.seeds, *seeds)))
    name, *overrides = shlex.split(plan.asked)
    kept = [word for word in overrides if not word.startswith("seeds=")]
    command = f"ablate run {shlex.join([name, *kept, f'seeds=[{listed}]', '--for', result.name])}"
    cost = _cost(results, result.name, further)
    where = f"{counted(further, 'further seed')} in {counted(len(result.cells), 'cell')}"
    return Remedy(f"{where} ({cost}), {aim}", runs, command)


def _cost(results: Results, name: str, further: int) -> str:
    """`28 runs and 84 other tasks, about 1.2 core-hours`: what a claim's tasks cost at further seeds, as they did."""
    tasks = [task for task in restrict(results.plan.tasks, claim_stages(results.plan, name)) if task.seeded]
    share = further / len(results.plan.study.seeds)
    runs = sum(task.opens for task in tasks) * share
    others = len(tasks) * share - runs
    words = counted(round(runs), "run") + (f" and {counted(round(others), 'other task')}" if others else "")
    known = {task: hours for task, *hours in results.warehouse.rows(_HOURS)}
    found = [known[task.task_id] for task in tasks if task.task_id in known]
    if not found:
        return words
    cores, gpus = (sum(hours) / len(found) * len(tasks) * share for hours in zip(*found, strict=True))
    if gpus:
        return f"{words}, about {estimated(gpus)} GPU-hours"
    cost = f"{estimated(cores)} core-hours" if cores >= 1 else f"{estimated(60 * cores)} core-minutes"
    return f"{words}, about {cost}"


_HOURS = """
    select task_id, seconds * coalesce(cores, 1) / 3600, coalesce(gpu_hours, 0) from cost where seconds is not null
"""
"""SQL: core-hours by the clock, as estimates count them, and GPU-hours."""


def _next_seeds(seeds: Sequence[int], count: int) -> tuple[int, ...]:
    """The smallest seeds that the study does not have.

    >>> _next_seeds((0, 1, 3), 2)
    (2, 4)
    """
    free = (seed for seed in range(len(seeds) + count) if seed not in seeds)
    return tuple(next(free) for _ in range(count))


def claim_json(judged: Judged) -> dict[str, Any]:
    """Everything about a claim, as JSON."""
    result = judged.result
    return {
        "claim": result.name,
        "text": result.text,
        "source": result.config.source,
        "statement": result.config.statement,
        "verdict": result.verdict,
        "p": result.p,
        "p_holm": judged.holm,
        "exact": result.exact,
        "agrees": result.agrees,
        "margin": result.config.margin,
        "unit": judged.unit,
        "estimand": result.config.estimand,
        "n": result.n_seeds,
        "metrics": list(result.metrics),
        "parts": [_part_json(part) for part in result.parts],
        "decide": {"text": judged.remedy.text, "runs": list(judged.remedy.runs), "command": judged.remedy.command},
        "query": judged.query,
        "runs": [{"cell": cell, **source._asdict()} for cell, sources in judged.runs for source in sources],
    }


def _part_json(part: Part) -> dict[str, Any]:
    effect = part.effect
    return {
        "comparison": part.text,
        "task": part.task,
        "verdict": part.verdict,
        "effect": None if part.agrees is None else effect.estimate,
        "target": part.target,
        "low": effect.low,
        "high": effect.high,
        "level": effect.level,
        "p": effect.p,
        "df": effect.df,
        "seeds": effect.n_seeds,
        "tasks": effect.n_tasks,
        "favourable": part.favourable,
        "agrees": part.agrees,
        "method": effect.method,
        "reason": effect.reason,
    }
