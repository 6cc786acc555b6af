"""What keeps a report from being final: every reason why a printed number could not be defended.

`finding_inputs` reads the warehouse and the home, `find` is a pure function over that. A draft marks the numbers
concerned (`mark`), a final build refuses.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablative.reports.provenance.finding_inputs import Facts, edited
from ablative.reports.store.coverage import TELLING, Coverage, StoredState
from ablative.reports.store.warehouse import cell_key
from ablative.reports.tables.tables import Entry, Table
from ablative.study.core.errors import AblateError
from ablative.study.core.identity import differences, identity
from ablative.study.core.plurals import counted
from ablative.study.home.task_state import FINISHED
from ablative.study.plan.outputs.layout import effects_layout

if TYPE_CHECKING:
    from ablative.reports.verdicts.claim_runs import Judged
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

SIGNS = {
    "mixed-code": "†",
    "dirty-code": "‡",
    "stale": "§",
    "changed-config": "¶",
    "identical-curves": "‖",
    "inexact-resume": "⋆",
}
"""Kind -> sign at a number. The other kinds show by themselves: a state in place of the number, `(2/3)` behind it."""

MEANINGS = {
    "mixed-code": "another code version than most numbers here",
    "dirty-code": "edited code, which no commit holds",
    "stale": "run again, or begun to be, since it was measured",
    "changed-config": "has results, but under another configuration",
    "identical-curves": "the same values, step by step, as another configuration",
    "inexact-resume": "stopped and resumed, which may have changed it",
}

NAMED = 4
"""So many tasks or outputs are named; the rest is counted."""

Place = tuple[str, str]
"""(cell key, stage)."""

Uses = Mapping[str, Sequence[tuple[str, tuple[str, ...]]]]
"""Output (`table main`) -> the cells behind it, with the stages that it takes from each."""

Behind = Mapping[str, Mapping[str, StoredState]]
"""Output -> task id -> the state of that task."""


@dataclass(frozen=True)
class Finding:
    """One reason, over everything that it concerns."""

    kind: str
    text: str
    """What was found."""
    remedy: str
    """What to do about it."""
    tasks: tuple[str, ...] = ()
    """Ids."""
    places: Mapping[str, frozenset[Place]] = dataclasses.field(default_factory=dict)
    """Output -> where it is concerned."""

    @property
    def sign(self) -> str:
        """Its sign at a number; empty for a kind that shows by itself."""
        return SIGNS.get(self.kind, "")

    @property
    def outputs(self) -> str:
        """`table main, claim gain`: where it shows."""
        names = list(self.places)
        return ", ".join(names[:NAMED] + [f"{len(names) - NAMED} more"] * (len(names) > NAMED))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "text": self.text,
            "remedy": self.remedy,
            "outputs": list(self.places),
            "tasks": list(self.tasks),
        }


class NotFinalError(AblateError):
    """A final build was asked for, and something is not final; nothing was written."""

    def __init__(self, study: str, findings: Sequence[Finding]) -> None:
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in findings))
        super().__init__(f"{study} is not final: {kinds}; nothing was written ('--allow KIND' accepts one)")
        self.findings = tuple(findings)

    def to_json(self) -> list[dict[str, Any]]:
        return [finding.to_json() for finding in self.findings]


def cells_used(plan: Plan, tables: Sequence[Table], claims: Sequence[Judged]) -> Uses:
    """Which cells and stages each table, effect and claim prints from."""
    found: dict[str, dict[tuple[str, tuple[str, ...]], None]] = {}
    for table in tables:
        own = found.setdefault(f"table {table.name}", {})
        if table.name in plan.study.effects:
            cells = effects_layout(table.name, plan.study.effects[table.name], plan.cells).values()
            own |= {(cell_key(cell), column.stages): None for cell in cells for column in table.columns}
            continue
        if table.sql:
            # What a query reads is not known, so it counts as reading everything.
            own |= {(cell_key(cell), plan.stages): None for cell in plan.cells}
            continue
        for row in table.rows:
            entries = zip(row.entries, table.columns, strict=True)
            own |= {(entry.cell, column.stages): None for entry, column in entries if entry.cell}
    for judged in claims:
        keys = [(cell_key(cell), judged.stages) for cell in judged.result.cells]
        found[f"claim {judged.result.name}"] = dict.fromkeys(keys)
    return {output: tuple(own) for output, own in found.items() if own}


def find(asked: str, used: Uses, coverage: Coverage, facts: Facts) -> tuple[Finding, ...]:
    """Everything that keeps the outputs from being final, one finding a kind; `asked` is `Plan.asked`."""
    behind = {output: tasks_behind(own, coverage) for output, own in used.items()}
    found = [
        _lacking(asked, used, behind, coverage),
        _diverged(asked, behind),
        _unsynced(asked, behind, facts),
        _changed(asked, behind, facts),
        _stale(asked, behind, facts),
        _mixed(asked, behind, facts),
        _dirty(asked, behind, facts),
        _identical(behind, facts),
        _resumed(asked, behind, facts),
    ]
    return tuple(finding for finding in found if finding)


def mark(tables: Sequence[Table], findings: Sequence[Finding]) -> tuple[Table, ...]:
    """The tables with a sign at every number that a finding concerns, and what the signs mean."""
    return tuple(_marked(table, findings) for table in tables)


def _marked(table: Table, findings: Sequence[Finding]) -> Table:
    output = f"table {table.name}"
    own = {finding.kind: finding.places[output] for finding in findings if output in finding.places}
    signed = {kind: places for kind, places in own.items() if kind in SIGNS}
    if not signed:
        return table
    if table.preformatted:
        said = "; ".join(MEANINGS[kind] for kind in signed)
        return dataclasses.replace(table, notes=(*table.notes, f"Draft: of some runs behind these numbers: {said}."))
    rows = tuple(
        dataclasses.replace(
            row,
            entries=tuple(
                _signed(entry, column.stages, signed) for entry, column in zip(row.entries, table.columns, strict=True)
            ),
        )
        for row in table.rows
    )
    said = "; ".join(f"{SIGNS[kind]} {MEANINGS[kind]}" for kind in signed)
    return dataclasses.replace(table, rows=rows, notes=(*table.notes, f"Draft: {said}."))


def _signed(entry: Entry, stages: Iterable[str], signed: Mapping[str, frozenset[Place]]) -> Entry:
    places = [(entry.cell, stage) for stage in stages]
    marks = "".join(SIGNS[kind] for kind, own in signed.items() if any(place in own for place in places))
    return dataclasses.replace(entry, finding_marks=entry.finding_marks + marks) if marks else entry


def tasks_behind(own: Iterable[tuple[str, tuple[str, ...]]], coverage: Coverage) -> dict[str, StoredState]:
    """Every task behind an output, in the order of the plan: those of its stages, and all that these need."""
    wanted: set[str] = set()
    for place in {(cell, stage) for cell, stages in own for stage in stages}:
        for state in coverage.tasks.get(place, ()):
            wanted.update(state.chain)
    return {task: state for task, state in coverage.states.items() if task in wanted}


def _finding(
    kind: str, found: Mapping[str, Sequence[StoredState]], behind: Behind, text: str, remedy: str, tail: str = ""
) -> Finding | None:
    """A finding about tasks by output; None where there are none. `{}` in the text is their number and noun."""
    states = {state.task.task_id: state for own in found.values() for state in own}
    if not states:
        return None
    said = text.format(counted(len(states), "task"))
    places = _places(found, behind)
    return Finding(kind, f"{said}: {_named(states.values())}{tail}", remedy, tuple(states), places)


def _places(found: Mapping[str, Sequence[StoredState]], behind: Behind) -> dict[str, frozenset[Place]]:
    """Output -> where the tasks are that were found in it, and those that rest on them."""
    places = {}
    for output, own in found.items():
        ids = {state.task.task_id for state in own}
        concerned = [state for state in behind[output].values() if ids.intersection(state.chain)] if ids else ()
        if concerned:
            places[output] = frozenset((cell_key(cell), s.task.stage) for s in concerned for cell in s.task.cells)
    return places


def _named(states: Iterable[StoredState]) -> str:
    """`a seed=0 [zero_shot] (failed: out of memory); b seed=1 (eligible); 12 more`."""
    listed = sorted(states, key=lambda state: TELLING.index(state.state))
    names = [f"{state.task.name} ({state.text})" if state.state != "completed" else state.task.name for state in listed]
    rest = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return "; ".join(names[:NAMED] + rest)


def _lacking(asked: str, used: Uses, behind: Behind, coverage: Coverage) -> Finding | None:
    """Planned seeds without a result; also cells whose configuration is still searched."""
    done = (*FINISHED, "not synced")
    found = {
        output: [state for state in own.values() if state.state not in done and state.blocked != "diverged"]
        for output, own in behind.items()
    }
    searched = {cell for own in used.values() for cell, _ in own if cell in coverage.searched}
    causes = {state.cause for own in found.values() for state in own if "failed" in (state.state, state.blocked)}
    absent = any(state.state == "absent" for own in found.values() for state in own)
    remedy = f"ablate {'retry' if causes else 'run'} {asked}"
    if causes == {"cancelled"}:
        remedy += " --cause cancelled"
    if absent:
        remedy = "add these runs to what the study names under 'results', or take the seeds or cells away"
    tail = f"; {len(searched)} cells wait for their search" if searched else ""
    finding = _finding("missing", found, behind, "{} without a result", remedy, tail)
    if finding or not searched:
        return finding
    reasons = "; ".join(sorted({coverage.searched[cell] for cell in searched}))
    return Finding("missing", f"{len(searched)} cells wait for their search: {reasons}", f"ablate search {asked}")


def _diverged(asked: str, behind: Behind) -> Finding | None:
    found = {
        output: [state for state in own.values() if "diverged" in (state.state, state.blocked)]
        for output, own in behind.items()
    }
    remedy = f"NaN is a result: print it with --allow diverged, or change what diverged and ablate run {asked}"
    return _finding("diverged", found, behind, "{} diverged, or need one that did", remedy)


def _unsynced(asked: str, behind: Behind, facts: Facts) -> Finding | None:
    found = {output: [state for state in own.values() if state.state == "not synced"] for output, own in behind.items()}
    remedy = f"ablate sync {asked}"
    finding = _finding("unsynced", found, behind, "{} finished, but not in the tracking store", remedy)
    if finding or not facts.pending:
        return finding
    return Finding("unsynced", f"the journals of {facts.pending} tasks hold what the store has not", remedy)


def _changed(asked: str, behind: Behind, facts: Facts) -> Finding | None:
    """Numbers that were there under another configuration: a default or the study has changed since they were run."""
    found = {output: [own[task] for task in own if task in facts.changed] for output, own in behind.items()}
    whys = dict.fromkeys(facts.changed[state.task.task_id] for own in found.values() for state in own)
    tail = f" ({'; '.join(list(whys)[:NAMED])})"
    remedy = f"put the configuration back, or ablate run {asked}"
    return _finding("changed-config", found, behind, "{} of another configuration than the plan's", remedy, tail)


def _stale(asked: str, behind: Behind, facts: Facts) -> Finding | None:
    found = {output: [own[task] for task in own if task in facts.stale] for output, own in behind.items()}
    whys = dict.fromkeys(facts.stale[state.task.task_id] for own in found.values() for state in own)
    remedy = f"ablate run {asked}; a task is done again when its folder is moved away"
    return _finding("stale", found, behind, "{} stale", remedy, f" ({'; '.join(whys)})")


def _mixed(asked: str, behind: Behind, facts: Facts) -> Finding | None:
    """Within an output, tasks of one stage whose code, with that of all that they need, is not that of most."""
    found: dict[str, list[StoredState]] = {}
    for output, own in behind.items():
        stages: dict[str, list[tuple[StoredState, tuple[str, ...]]]] = {}
        for state in own.values():
            if (code := facts.code(state)) is not None:
                stages.setdefault(state.task.stage, []).append((state, code))
        found[output] = [state for stage in stages.values() for state in _minority(stage)]
    if not any(found.values()):
        return None
    every = Counter(facts.short(task) for own in behind.values() for task in own if task in facts.commits)
    versions = " and ".join(sorted(every))
    remedy = (
        f"see what differs with '{facts.comparison}'; where it matters, move these runs' folders "
        f"away and ablate run {asked}"
    )
    return _finding("mixed-code", found, behind, f"{{}} of other code than most ({versions})", remedy)


def _minority(stage: Sequence[tuple[StoredState, tuple[str, ...]]]) -> list[StoredState]:
    counts = Counter(code for _, code in stage)
    usual = max(counts, key=lambda code: (counts[code], code))
    return [state for state, code in stage if code != usual]


def _dirty(asked: str, behind: Behind, facts: Facts) -> Finding | None:
    found = {
        output: [own[task] for task in own if task in facts.commits and edited(facts.commits[task])]
        for output, own in behind.items()
    }
    commits = {facts.short(state.task.task_id) for own in found.values() for state in own}
    remedy = f"commit the code, move these runs' folders away, and ablate run {asked}"
    tail = f" (code {', '.join(sorted(commits))})"
    return _finding("dirty-code", found, behind, "{} of edited code, which no commit holds", remedy, tail)


def _identical(behind: Behind, facts: Facts) -> Finding | None:
    """Tasks that have logged the same as another one: their levels differ in what their code does not read."""
    same = {task.task_id for group in facts.identical for task in group}
    found = {output: [own[task] for task in own if task in same] for output, own in behind.items()}
    used = {state.task.task_id for own in found.values() for state in own}
    groups = [group for group in facts.identical if any(task.task_id in used for task in group)]
    if not groups:
        return None
    named = [_same(group) for group in groups[:NAMED]] + [f"{len(groups) - NAMED} more"] * (len(groups) > NAMED)
    tasks = tuple(task.task_id for group in groups for task in group)
    text = f"{counted(len(tasks), 'task')} with the curves of another one, bit by bit: {'; '.join(named)}"
    remedy = (
        "what they differ in is not read: drop the level, or have the code read it; where it is meant, "
        "--allow identical-curves"
    )
    return Finding("identical-curves", text, remedy, tasks, _places(found, behind))


def _resumed(asked: str, behind: Behind, facts: Facts) -> Finding | None:
    """Tasks that were stopped and resumed, unless it is known that they end as uninterrupted ones do."""
    found = {output: [own[task] for task in own if task in facts.resumed] for output, own in behind.items()}
    whys = dict.fromkeys(facts.resumed[state.task.task_id] for own in found.values() for state in own)
    remedy = (
        f"measure it by ablate try {asked} (or say 'resume: {{exact: true}}'); where it matters, move these runs' "
        f"folders away and ablate run {asked}, else --allow inexact-resume"
    )
    tail = f" ({'; '.join(whys)})"
    return _finding("inexact-resume", found, behind, "{} stopped and resumed, which may change results", remedy, tail)


def _same(group: Sequence[Task]) -> str:
    """`a seed=0 = b seed=0 (differ in model.width)`."""
    names = [task.name for task in group[:NAMED]] + [f"{len(group) - NAMED} more"] * (len(group) > NAMED)
    one, other = group[0], group[1]
    keys = [*differences(identity(one.config), identity(other.config))]
    keys += ["seed"] * (one.seed != other.seed and not keys)
    listed = ", ".join(keys[:NAMED] + [f"{len(keys) - NAMED} more"] * (len(keys) > NAMED))
    return " = ".join(names) + (f" (differ in {listed})" if listed else "")


def render_findings_text(findings: Sequence[Finding]) -> str:
    """Two lines for each finding, under a heading; empty where there is none."""
    if not findings:
        return ""
    lines = ["Before it is final:"]
    for finding in findings:
        where = f" [{finding.outputs}]" if finding.places else ""
        lines += [f"  {finding.sign or '–'} {finding.kind}: {finding.text}{where}", f"      → {finding.remedy}"]
    return "\n".join(lines)
