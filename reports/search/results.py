"""A search's trials as the store knows them, and its winners against what was tried first: the papers' values."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ablative.reports.stats.columns import Delta
from ablative.reports.stats.compare import difference
from ablative.reports.stats.summary import Summary, sample_sd
from ablative.reports.store.labels import Labels
from ablative.reports.store.measures import shared
from ablative.reports.store.results import Results
from ablative.reports.tables.tables import Column, Entry, Row, Table, number
from ablative.study.plan.winners import Tried, winner
from ablative.study.spec.search import GoalConfig, SearchConfig
from ablative.study.syntax.metric_patterns import expand
from ablative.study.trainers import Metric

DIGITS = 2


@dataclass(frozen=True)
class Trial:
    """One set of values, over all runs that were trained with it."""

    number: int
    state: str
    """complete | pruned | diverged | failed"""
    first: bool
    """Tried before the sampler was asked."""
    values: Mapping[str, Any]
    """Parameter → value, of those that exist for this trial."""
    seeds: Mapping[int, tuple[float, ...]]
    """Seed of the search → value of each goal, on the validation split."""
    repeats: Mapping[int, tuple[float, ...]]
    """Seed of a repeat of this trial → value of each goal, on the validation split."""

    @property
    def goal_values(self) -> tuple[float, ...]:
        """Each goal's mean over the search's seeds, as the sampler got it; empty unless the trial is complete."""
        return tuple(map(fmean, zip(*self.seeds.values(), strict=True))) if self.state == "complete" else ()

    @property
    def value(self) -> float:
        """The first goal, as well as it is known: mean over the repeats where there are any, else over the search's
        seeds, by which the best were chosen and are flattered. Only of complete trials."""
        return fmean(own[0] for own in (self.repeats or self.seeds).values())

    @property
    def count(self) -> int:
        """Seeds behind `value`."""
        return len(self.repeats or self.seeds)


@dataclass(frozen=True)
class ArmTrials:
    """One arm's search."""

    name: str
    search: SearchConfig
    goals: tuple[str, ...]
    """What is sought, in words, with its unit."""
    trials: tuple[Trial, ...]
    """Trials, ordered by number."""
    hours: float
    """Hours of all runs and the stages that they were chosen by."""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Parameter → how it is printed."""
    validated: bool = True
    """Its goals are measured on data that no table of results shows."""
    label: str = ""
    """How the arm itself is printed, by what distinguishes it: `Pooling: MAP`; empty: by its name."""

    @property
    def title(self) -> str:
        return self.label or self.name

    @property
    def complete(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.goal_values]

    @property
    def best(self) -> Trial | None:
        """The winner; None where there is none (yet), or the search has several goals."""
        if len(self.search.objective) > 1:
            return None
        tried = [
            Tried(t.number, t.goal_values[0], {seed: values[0] for seed, values in t.repeats.items()})
            for t in self.complete
        ]
        found = winner(tried, self.search.objective[0].direction, self.search.confirm.seeds)
        return next((trial for trial in self.trials if found and trial.number == found.number), None)

    @property
    def front(self) -> list[Trial]:
        """Trials that no other is at least as good as in every goal and better in one."""
        signs = [1 if goal.direction == "maximize" else -1 for goal in self.search.objective]

        def oriented(trial: Trial) -> list[float]:
            return [sign * value for sign, value in zip(signs, trial.goal_values, strict=True)]

        def beaten(trial: Trial) -> bool:
            own = oriented(trial)
            others = (oriented(other) for other in self.complete)
            return any(other != own and all(a >= b for a, b in zip(other, own, strict=True)) for other in others)

        return [trial for trial in self.complete if not beaten(trial)]


def read_trials(results: Results) -> tuple[ArmTrials, ...]:
    """The trials of the search as the study has it now, arm by arm; those of an edited section do not count."""
    plan, search = results.plan, results.study.search
    if search is None:
        return ()
    columns = "arm_key, trial, role, seed, state, first, parameters, objectives, seconds"
    rows: dict[str, dict[int, list[tuple[Any, ...]]]] = {}
    for key, trial, *rest in results.warehouse.rows(
        f"select {columns} from trials order by arm_key, trial, role, seed"
    ):
        rows.setdefault(key, {}).setdefault(trial, []).append(tuple(rest))
    found = []
    goals = tuple(goal_name(goal, plan.declared, results.labels) for goal in search.objective)
    differs = {factor for arm in plan.arms for factor, level in arm.cell.items() if level != plan.arms[0].cell[factor]}
    for arm in plan.arms:
        own = rows.get(arm.key, {})
        trials = tuple(trial for at, runs in own.items() for trial in _trial(at, runs))
        hours = sum(run[-1] for runs in own.values() for run in runs) / 3600
        names = {key: _printed(key, results.labels) for key in search.parameters}
        shown = {factor: level for factor, level in arm.cell.items() if factor in differs or not differs}
        label = ", ".join(f"{results.labels.factor(f)}: {results.labels.level(f, own)}" for f, own in shown.items())
        found.append(ArmTrials(arm.name, search, goals, trials, hours, names, arm.validated, label))
    return tuple(found)


def _trial(at: int, runs: Sequence[tuple[Any, ...]]) -> Iterator[Trial]:
    """The trial of these rows; none where only a repeat of it is known."""
    searched = [run for run in runs if run[0] == "search"]
    if not searched:
        return
    _, _, state, first, values, *_ = searched[0]
    by_role: dict[str, dict[int, tuple[float, ...]]] = {"search": {}, "repeat": {}}
    for role, seed, _, _, _, reached, _ in runs:
        if reached is not None:
            by_role[role][seed] = tuple(reached)
    yield Trial(at, state, first, json.loads(values), by_role["search"], by_role["repeat"])


def goal_name(goal: GoalConfig, declared: Mapping[str, Metric], labels: Labels | None = None) -> str:
    """What is sought, in words, with the unit that its metrics share; by the metrics' labels, where they have some."""
    names = [name for pattern in goal.metric for name in expand(pattern, list(declared))]
    if labels is not None and names:
        return labels.quantity(names)
    metric = goal.metric[0] if len(goal.metric) == 1 else f"mean of {', '.join(goal.metric)}"
    unit = shared(declared[name].unit for name in names)
    return f"{metric} ({unit})" if unit else metric


def _printed(key: str, labels: Labels) -> str:
    """A parameter's label, else its short name."""
    return label if (label := labels.axis(key)) != key else short_name(key)


def short_name(key: str) -> str:
    """A parameter's name without the section of the configuration, such as `w_image`."""
    return key.rpartition(".")[2]


def value_text(value: Any) -> str:
    """A parameter's value as it is printed."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def winners_table(arms: Sequence[ArmTrials]) -> Table:
    """Table of each arm's winner and of what was tried first; with several goals, of its Pareto front."""
    search = arms[0].search
    goals = arms[0].goals
    several = len(goals) > 1
    printed = [(short_name(key), arms[0].names.get(key, short_name(key))) for key in search.parameters]
    others = [*goals, *([] if several else ["winner − this", "winner is better, sure (%)"])]
    columns = tuple(
        Column(label, "", "", DIGITS, (), False, heads=("", "", text))
        for label, text in [*printed, *zip(others, others, strict=True)]
    )
    rows = tuple(row for arm in arms for row in (_front_rows(arm) if several else _rows(arm)))
    title = "Best trade-offs of the search" if several else "Winners of the search against what was tried first"
    return Table("winners", title, ("arm", "trial"), "", columns, rows, _notes(arms), preformatted=True)


def _rows(arm: ArmTrials) -> list[Row]:
    best = arm.best
    if best is None:
        return []
    others = [trial for trial in arm.complete if trial.first and trial.number != best.number]
    word = "winner" if best.repeats or not arm.search.confirm.seeds else "best so far"
    rows = [_row(arm, f"{best.number}: {word}", (*_values(arm, best), _mean(best), _none(), _none()))]
    for trial in others:
        label = f"{trial.number}: tried first"
        rows.append(_row(arm, label, (*_values(arm, trial), _mean(trial), *_sure(arm, best, trial))))
    return rows


def _row(arm: ArmTrials, label: str, entries: tuple[Entry, ...]) -> Row:
    return Row((arm.name, label), entries, (arm.title, label))


def _front_rows(arm: ArmTrials) -> list[Row]:
    return [
        _row(
            arm,
            str(trial.number),
            (*_values(arm, trial), *(_text(number(v, DIGITS), v) for v in trial.goal_values)),
        )
        for trial in sorted(arm.front, key=lambda trial: trial.goal_values)
    ]


def _values(arm: ArmTrials, trial: Trial) -> list[Entry]:
    return [
        _text(value_text(trial.values[key])) if key in trial.values else _none("does not exist for this trial")
        for key in arm.search.parameters
    ]


def _mean(trial: Trial) -> Entry:
    """Over the repeats, or without any over the search's own seeds."""
    values = [found[0] for found in (trial.repeats or trial.seeds).values()]
    sd = sample_sd(values)
    text = number(fmean(values), DIGITS) + ("" if sd is None else f" ± {number(sd, DIGITS)}")
    return Entry("", Summary(len(values), fmean(values), sd), len(values), literal=text)


def _sure(arm: ArmTrials, best: Trial, other: Trial) -> tuple[Entry, Entry]:
    """The winner less this trial by the same repeated seeds, and how likely a positive difference is."""
    pool = [trial for trial in arm.complete if trial.repeats and trial.number not in (best.number, other.number)]
    arms = [{"": {seed: values[0] for seed, values in t.repeats.items()}} for t in (best, other, *pool)]
    effect = difference(arms[0], arms[1], paired=True, others=arms[2:]) if best.repeats and other.repeats else None
    if effect is None or effect.low is None or effect.high is None or effect.p is None:
        return _none("one seed tells nothing of the spread over seeds"), _none()
    ends = (number(end, DIGITS, sign=True) for end in (effect.estimate, effect.low, effect.high))
    text = "{} [{}, {}]".format(*ends).replace("-", "−")
    better = effect.estimate > 0 if arm.search.objective[0].direction == "maximize" else effect.estimate < 0
    sure = 100 * (1 - effect.p / 2 if better else effect.p / 2)
    delta = Delta(effect.estimate, effect.low, effect.high, effect.p)
    summary = Summary(effect.n_seeds, effect.estimate, None)
    words = ">99" if sure > 99 else "<1" if sure < 1 else number(sure, 0)
    return Entry("", summary, effect.n_seeds, literal=text, error=delta), _text(words, sure)


def _text(text: str, value: float | None = None) -> Entry:
    return Entry("", None if value is None else Summary(1, value, None), 1, literal=text)


def _none(detail: str = "") -> Entry:
    return Entry("", None, 0, missing="–", detail=detail)


def _notes(arms: Sequence[ArmTrials]) -> tuple[str, ...]:
    search = arms[0].search
    notes = ["All values are of the validation split, which no table of results shows."] if arms[0].validated else []
    if len(search.objective) == 1:
        if search.confirm.seeds:
            seeds = ", ".join(map(str, search.confirm.seeds))
            notes.append(
                f"The {search.confirm.top} best trials and those tried first are repeated with seeds {seeds} once all "
                "have ended, and the best of these wins; mean ± sample standard deviation over these seeds alone. "
                "Difference: seed-paired t with 95 % interval, its error pooled over what was repeated. Sure: the t "
                "distribution's probability of a better winner. As the winner is the best of several by these seeds, "
                "both flatter it a little."
            )
        else:
            notes.append("No trial was repeated (confirm.seeds): the best is the luckiest, too, by an unknown amount.")
    budgets = sorted({len(arm.trials) for arm in arms})
    if len(arms) > 1:
        count = " to ".join(map(str, dict.fromkeys((budgets[0], budgets[-1]))))
        notes.append(f"{'Equal budgets' if len(budgets) == 1 else 'Unequal budgets'}: {count} trials for each arm.")
    for arm in arms:
        states = Counter(trial.state for trial in arm.trials)
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        notes.append(f"{arm.title}: {len(arm.trials)} trials ({counts or 'none yet'}), {arm.hours:.2g} hours.")
    return tuple(notes)
