r"""Every printed number under its key, with all that is behind it: `numbers.json`, and `numbers.tex` for prose.

`\input{numbers}` defines `\ablate`, so that `\ablate{demo.table4.clip.map.large.ZS-object}` prints the number as the
table does. A key that does not exist is an error of LaTeX that names it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.provenance.findings import Finding, cells_used, tasks_behind
from ablative.reports.provenance.number_keys import apart, key_part, table_keys
from ablative.reports.provenance.sidecar import Fields, json_line, values
from ablative.reports.store.coverage import Coverage, StoredState
from ablative.reports.store.warehouse import Source, cell_key, quoted
from ablative.reports.tables.escape import LATEX_SIGNS, bare, comment, latex
from ablative.reports.tables.printed import Parts, table_parts
from ablative.reports.tables.renderers import PLAIN, PROSE, joined_parts
from ablative.reports.tables.tables import Column, Entry, Table
from ablative.study.core.files import replacing
from ablative.study.plan.outputs.layout import effects_layout

if TYPE_CHECKING:
    from ablative.reports.store.results import Results
    from ablative.reports.verdicts.claim_runs import Judged
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

Numbers = dict[str, Any]
"""The content of `numbers.json`: study, findings, numbers (by key), tasks (by id), environments.

A number's `cell`, `formula`, `query` and `runs` are places in the lists cells, formulas, queries and run_sets, its
`values` are in the order of its set of runs, and `$cell` of its query is its cell: `unfolded` puts all of them in their
places.
"""


SHOWN = ("device", "host", "python", "packages", "interpreter")
"""Facts of a record's environment that are printed; code and command line are printed elsewhere."""


def collect_numbers(
    results: Results,
    tables: Sequence[Table],
    claims: Sequence[Judged],
    findings: Sequence[Finding],
    only: str = "",
) -> Numbers:
    """Every number of the tables and every verdict, and the tasks behind them.

    `only`: the key of the one number that is wanted, with its own tasks.
    """
    plan, coverage = results.plan, results.coverage
    shared = _Shared(coverage)
    pairs = [pair for table in tables for pair in _table_numbers(results, table, shared)]
    pairs += [pair for judged in claims for pair in _claim_numbers(plan.study.name, judged, shared)]
    pairs = list(zip(apart([key for key, _ in pairs]), (number for _, number in pairs), strict=True))
    if only:
        pairs = [(key, number) for key, number in pairs if key == only]
        behind = {task for _, number in pairs for run in shared.run_sets[number["runs"]] for task in run["tasks"]}
        states = [state for name, state in coverage.states.items() if name in behind]
    else:
        outputs = cells_used(plan, tables, claims).values()
        states = list({name: state for own in outputs for name, state in tasks_behind(own, coverage).items()}.values())
    tasks, environments = task_facts(results, states)
    return {
        "study": plan.study.name,
        "final": not findings,
        "findings": [finding.to_json() for finding in findings],
        "numbers": dict(pairs),
        **shared.parts(),
        "tasks": tasks,
        "environments": environments,
    }


class _Shared:
    """What many numbers have in common, each stored once; a number has its place: formulas, queries, sets of runs."""

    def __init__(self, coverage: Coverage) -> None:
        self.run_sets: list[list[Fields]] = []
        self.coverage = coverage
        self._texts: dict[str, dict[str, int]] = {"cells": {}, "formulas": {}, "queries": {}}
        self._sets: dict[tuple[object, ...], int] = {}

    def place(self, part: str, text: str) -> int:
        own = self._texts[part]
        return own.setdefault(text, len(own))

    def runs(self, sources: Sequence[Source], cell: str, stages: tuple[str, ...]) -> int:
        """The set of the runs behind one number of a table."""
        key = (cell, stages, *[source.run_id for source in sources])
        if key not in self._sets:
            self._sets[key] = self.add(_runs(sources, cell, stages, self.coverage))
        return self._sets[key]

    def add(self, runs: Sequence[Fields]) -> int:
        self.run_sets.append(list(runs))
        return len(self.run_sets) - 1

    def parts(self) -> Fields:
        return {**{part: list(own) for part, own in self._texts.items()}, "run_sets": self.run_sets}


def _table_numbers(results: Results, table: Table, shared: _Shared) -> Iterator[tuple[str, Fields]]:
    formulas = [shared.place("formulas", formula(table, column)) for column in table.columns]
    grid = _grid(results.plan, table)
    queries = [shared.place("queries", _query(table, column, grid)) for column in table.columns]
    names = [bare(column.name) for column in table.columns]
    keyed = zip(table.rows, table_keys(results.study.name, table), table_parts(table), strict=True)
    for row, keys, own in keyed:
        label = bare(row.name)
        for j, (entry, key, parts) in enumerate(zip(row.entries, keys, own, strict=True)):
            if not entry.cell and not entry.literal:
                continue  # it does not exist
            summary = entry.summary
            yield (
                key,
                {
                    "table": table.name,
                    "row": label,
                    "column": names[j],
                    "text": joined_parts(entry, parts, PLAIN).removesuffix(entry.finding_marks),
                    "marks": entry.finding_marks,
                    "parts": _parts(entry, parts) if summary else {},
                    "value": summary.mean if summary else None,
                    "sd": summary.sd if summary else None,
                    "n": summary.n if summary else 0,
                    "planned": entry.planned,
                    "cell": shared.place("cells", entry.cell),
                    "formula": formulas[j],
                    "query": queries[j],
                    "runs": shared.runs(entry.sources, entry.cell, table.columns[j].stages),
                    "values": values(entry.sources),
                },
            )


def _parts(entry: Entry, parts: Parts) -> dict[str, str]:
    value, spread, delta, _ = parts
    if entry.literal:  # an effect: its estimate, and its interval
        value, _, spread = entry.literal.partition(" ")
    return {"value": value, "spread": spread, "delta": delta}


def _query(table: Table, column: Column, grid: str) -> str:
    """The query of a column's numbers; `$cell` in it is the cell of one number."""
    if grid:
        return column.query.replace("= $cell", f"in ({grid})")
    return table.sql or column.query


def unfolded(numbers: Numbers, key: str) -> Fields:
    """One number with its own formula, query and runs (each with its value) in the places of their indices.

    Numbers that early versions have kept (`--tag`) are so already.
    """
    number = numbers["numbers"][key]
    if "run_sets" not in numbers:
        return dict(number)
    runs = zip(numbers["run_sets"][number["runs"]], number["values"], strict=True)
    found = {name: value for name, value in number.items() if name not in ("cell", "values")}
    return found | {
        "formula": numbers["formulas"][number["formula"]],
        "query": numbers["queries"][number["query"]].replace("$cell", quoted(numbers["cells"][number["cell"]])),
        "runs": [{**run, "value": value} for run, value in runs],
    }


def formula(table: Table, column: Column) -> str:
    """How a column's numbers are made."""
    if table.sql:
        return "a column of the study's own query"
    names = column.metrics
    of = names[0] if len(names) == 1 else f"the mean over {len(names)} tasks ({', '.join(names)})"
    return f"an estimate over the whole grid, of {of}" if table.preformatted else f"mean over seeds of {of}"


def _grid(plan: Plan, table: Table) -> str:
    """The cells behind a table of effects, as SQL literals; empty for other tables, whose numbers have a cell each."""
    config = plan.study.effects.get(table.name) if table.preformatted else None
    cells = effects_layout(table.name, config, plan.cells).values() if config else ()
    return ", ".join(quoted(cell_key(cell)) for cell in cells)


def _runs(sources: Iterable[Source], cell: str, stages: Sequence[str], coverage: Coverage) -> list[Fields]:
    """The seeds of one number: run, value, and the tasks that it rests on, those that measured it last."""
    rests: dict[str, dict[str, None]] = {}
    for state in coverage.behind(cell, stages):
        rests.setdefault(state.task.run_id, {}).update(dict.fromkeys(state.chain))
    return [
        {
            "seed": source.seed,
            "run_id": source.run_id,
            "tasks": list(rests.get(source.run_id, [source.run_id])),
        }
        for source in sources
    ]


def _claim_numbers(study: str, judged: Judged, shared: _Shared) -> Iterator[tuple[str, Fields]]:
    """A claim's verdict, and the effect of each of its comparisons."""
    from ablative.reports.verdicts.claim_tables import lines, verdict_text

    result = judged.result
    key = ".".join(key_part(part) for part in (study, "claims", result.name))
    behind = [(cell_key(cell), sources) for cell, (_, sources) in zip(result.cells, judged.runs, strict=True)]
    runs = [run for cell, sources in behind for run in _runs(sources, cell, judged.stages, shared.coverage)]
    common = {
        "claim": result.name,
        "marks": "",
        "n": result.n_seeds,
        "cell": shared.place("cells", ""),
        "formula": shared.place("formulas", result.config.statement),
        "query": shared.place("queries", judged.query),
        "runs": shared.add(runs),
        "values": [value for _, sources in behind for value in values(sources)],
    }
    yield key, {**common, "text": verdict_text(result), "parts": {}, "value": None, "sd": None}
    for i, line in enumerate(lines(judged)):
        name = f"{key}.effect" + (f"{i + 1}" if i else "")
        if line.effect != "–":
            interval = "" if line.interval == "none" else line.interval
            text = f"{line.effect} {interval}".rstrip()
            parts = {"value": line.effect, "spread": interval, "delta": ""}
            yield name, {**common, "text": text, "parts": parts, "value": result.parts[i].effect.estimate, "sd": None}


def task_facts(results: Results, states: Iterable[StoredState]) -> tuple[dict[str, Fields], list[Fields]]:
    """Finished tasks by id (stage, run, seed, code, when it ended, data fingerprints, place of its environment), and
    the environments. A task of another home has no record here: its environment is None."""
    rows = {row[0]: row[1:] for row in results.warehouse.rows(_ENDS)}
    data_of = _inputs(results.plan)
    environments: dict[str, int] = {}
    tasks = {}
    for state in states:
        task = state.task
        if task.task_id not in rows:
            continue
        commit, finished, sources, origin = rows[task.task_id]
        tasks[task.task_id] = {
            "stage": task.stage,
            "kind": task.kind,
            "protocol": task.protocol,
            "run_id": task.run_id,
            "seed": task.seed,
            "state": state.state,
            "commit": commit,
            **({"sources": sources} if sources else {}),
            "finished": finished,
            "data": data_of(task),
            "environment": _place(environment(results, task), environments),
            **({"origin": origin} if origin else {}),
        }
    return tasks, [json.loads(text) for text in environments]


def _inputs(plan: Plan) -> Callable[[Task], dict[str, str]]:
    """The data fingerprints of a task; seeds and cells share configurations, or their sections."""
    known: dict[tuple[str, int], dict[str, str]] = {}

    def inputs(task: Task) -> dict[str, str]:
        key = (task.stage, id(task.config))
        if key not in known:
            known[key] = dict(plan.trainer.inputs(task.stage, task.config))
        return known[key]

    return inputs


def environment(results: Results, task: Task) -> Mapping[str, Any]:
    """Device, host and versions of a task that ran in this home; empty for others."""
    found = results.environment(task)
    return {name: found[name] for name in SHOWN if found.get(name)}


def _place(found: Mapping[str, Any], environments: dict[str, int]) -> int | None:
    """Index of an environment in the list, to which a new one is added."""
    return environments.setdefault(json.dumps(found, sort_keys=True), len(environments)) if found else None


def write_numbers_json(path: Path, numbers: Numbers) -> None:
    """Write one number a line, so that small differences stay small; a large report's whole text is never in memory."""
    with replacing(path) as file:
        file.writelines(_pieces(numbers))


def _pieces(numbers: Numbers) -> Iterator[bytes]:
    parts = {name: numbers[name] for name in ("numbers", "tasks", "run_sets") if name in numbers}
    head = {name: value for name, value in numbers.items() if name not in parts}
    yield json.dumps(head, ensure_ascii=False, indent=1, allow_nan=False).removesuffix("\n}").encode()
    for name, own in parts.items():
        first, last = (b"{", b"}") if isinstance(own, Mapping) else (b"[", b"]")
        keys = [json_line(key) + b": " for key in own] if isinstance(own, Mapping) else [b""] * len(own)
        values = own.values() if isinstance(own, Mapping) else own
        yield b',\n "%b": %b\n' % (name.encode(), first)
        for place, (key, value) in enumerate(zip(keys, values, strict=True)):
            yield (b",\n" if place else b"") + key + json_line(value)
        yield b"\n" + last
    yield b"\n}\n"


def render_numbers_latex(numbers: Numbers) -> str:
    r"""Definitions for `\input`. Each number is there as `key` (value and spread, signs of a draft) and in parts:
    `key.value` without its spread, `key.delta`, the difference to the baseline, and `key.n`, the number of seeds.
    """
    from ablative.reports.tables.latex_tables import packages_line

    study = key_part(numbers["study"])
    found = numbers["numbers"]
    macros = [_macro(key, number) for key, number in found.items()]
    macros += [_macro(key, found[key]) for key in _parts_of_others(found)]  # what is read last is printed
    lines = [
        packages_line("".join(macros)),
        f"% study {comment(study)}: the numbers of its tables for prose; what is behind each: numbers.json",
        *([] if numbers["final"] else ["% DRAFT: 'ablate report --final' tells what is not final"]),
        _MACROS.replace("STUDY", study),
        *macros,
    ]
    return "\n".join(lines) + "\n"


def _parts_of_others(numbers: Mapping[str, Any]) -> list[str]:
    """Keys of numbers that are also those of another number's part (`key.value`)."""
    ends = (".value", ".delta", ".n")
    return [key for key in numbers if key.endswith(ends) and key.rpartition(".")[0] in numbers]


def _macro(key: str, number: Mapping[str, Any]) -> str:
    sign = PROSE.sign.format(number["marks"].translate(LATEX_SIGNS)) if number["marks"] else ""
    parts = number["parts"]
    if not parts:
        text = latex(number["text"])
        shown = (text if "claim" in number else rf"\ablatemissing{{{text}}}") + sign
        return rf"\ablatenumber{{{key}}}{{{shown}}}%"
    value, spread, delta = _number(parts["value"]), _number(parts["spread"]), _number(parts["delta"])
    whole = f"{value} {spread}".rstrip()
    change = delta + sign if delta else ""
    return rf"\ablateparts{{{key}}}{{{whole}{sign}}}{{{value}{sign}}}{{{change}}}{{{number['n']}}}%"


@functools.lru_cache(maxsize=10_000)
def _number(text: str) -> str:
    return latex(text)  # many numbers have the same few digits


_MACROS = r"""% \ablate{STUDY.table.row.column} or, of the first study that is read, \ablate{table.row.column}
\def\ablatenumber#1#2{\expandafter\gdef\csname ablate.\detokenize{#1}\endcsname{#2}}
% key, number with its spread, without it, difference to the baseline, seeds
\def\ablateparts#1#2#3#4#5{\ablatenumber{#1}{#2}\ablatenumber{#1.value}{#3}\ablatenumber{#1.n}{#5}%
  \if\relax\detokenize{#4}\relax\else\ablatenumber{#1.delta}{#4}\fi}
\ifdefined\ablatestudy\else\edef\ablatestudy{\detokenize{STUDY}}\fi
\def\ablate#1{%
  \ifcsname ablate.\detokenize{#1}\endcsname\csname ablate.\detokenize{#1}\endcsname
  \else\ifcsname ablate.\ablatestudy.\detokenize{#1}\endcsname\csname ablate.\ablatestudy.\detokenize{#1}\endcsname
  \else\ablateunknown{\detokenize{#1}}\fi\fi}
\protected\def\ablateunknown#1{\textbf{??}\PackageError{ablate}{There is no number '#1'}{%
  See numbers.json for the keys that exist, or run ablate report again.}}
\protected\def\ablatemissing#1{\textbf{[#1]}\PackageWarning{ablate}{A number is missing: #1}}"""

_ENDS = """
    select task_id, commit, strftime(finished, '%Y-%m-%dT%H:%M:%SZ'), sources, origin
    from runs where planned and state in ('completed', 'diverged')
"""
