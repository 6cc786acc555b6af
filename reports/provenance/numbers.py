r"""Every printed number under its key, with all that is behind it: `numbers.json`, and `numbers.tex` for prose.

`\input{numbers}` defines `\ablate`, so that `\ablate{demo.table4.clip.map.large.ZS-object}` prints the number as the
table does. A key that does not exist is an error of LaTeX that names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablative.reports.provenance.findings import Finding, cells_used, tasks_behind
from ablative.reports.provenance.number_keys import apart, key_part, table_keys
from ablative.reports.store.coverage import Coverage, StoredState
from ablative.reports.store.warehouse import Source, cell_key, quoted
from ablative.reports.tables.escape import LATEX_SIGNS, bare, comment, latex
from ablative.reports.tables.latex_tables import packages_line
from ablative.reports.tables.printed import entry_parts
from ablative.reports.tables.renderers import PLAIN, PROSE, entry_text
from ablative.reports.tables.tables import Column, Table
from ablative.reports.verdicts.claim_tables import lines, verdict_text
from ablative.study.home.records import read_record
from ablative.study.plan.layout import effects_layout

if TYPE_CHECKING:
    from ablative.reports.store.results import Results
    from ablative.reports.verdicts.claim_runs import Judged
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

Numbers = dict[str, Any]
"""The content of `numbers.json`: study, findings, numbers (by key), tasks (by id), environments."""


SHOWN = ("device", "host", "python", "packages")
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
    pairs = [pair for table in tables for pair in _table_numbers(results, table)]
    pairs += [pair for judged in claims for pair in _claim_numbers(plan.study.name, judged, coverage)]
    pairs = list(zip(apart([key for key, _ in pairs]), (number for _, number in pairs), strict=True))
    if only:
        pairs = [(key, number) for key, number in pairs if key == only]
        behind = {task for _, number in pairs for run in number["runs"] for task in run["tasks"]}
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
        "tasks": tasks,
        "environments": environments,
    }


def _table_numbers(results: Results, table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    formulas = [formula(table, column) for column in table.columns]
    grid = _grid(results.plan, table)
    for i, (row, keys) in enumerate(zip(table.rows, table_keys(results.study.name, table), strict=True)):
        for j, (entry, key) in enumerate(zip(row.entries, keys, strict=True)):
            if not entry.cell and not entry.literal:
                continue  # it does not exist
            column = table.columns[j]
            value, spread, delta, _ = entry_parts(entry, column)
            if entry.literal:  # an effect: its estimate, and its interval
                value, _, spread = entry.literal.partition(" ")
            summary = entry.summary
            yield (
                key,
                {
                    "table": table.name,
                    "row": bare(row.name),
                    "column": bare(column.name),
                    "text": entry_text(entry, column, PLAIN).removesuffix(entry.finding_marks),
                    "marks": entry.finding_marks,
                    "parts": {"value": value, "spread": spread, "delta": delta} if summary else {},
                    "value": summary.mean if summary else None,
                    "sd": summary.sd if summary else None,
                    "n": summary.n if summary else 0,
                    "planned": entry.planned,
                    "formula": formulas[j],
                    "query": column.query.replace("= $cell", f"in ({grid})") if grid else table.query(i, j),
                    "runs": _runs(entry.sources, entry.cell, column.stages, results.coverage),
                },
            )


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


def _runs(sources: Iterable[Source], cell: str, stages: Sequence[str], coverage: Coverage) -> list[dict[str, Any]]:
    """The seeds of one number: run, value, and the tasks that it rests on, those that measured it last."""
    rests: dict[str, dict[str, None]] = {}
    for state in coverage.behind(cell, stages):
        rests.setdefault(state.task.run_id, {}).update(dict.fromkeys(state.chain))
    return [
        {
            "seed": source.seed,
            "run_id": source.run_id,
            "value": source.value if source.value == source.value else None,
            "tasks": list(rests.get(source.run_id, [source.run_id])),
        }
        for source in sources
    ]


def _claim_numbers(study: str, judged: Judged, coverage: Coverage) -> Iterator[tuple[str, dict[str, Any]]]:
    """A claim's verdict, and the effect of each of its comparisons."""
    result = judged.result
    key = ".".join(key_part(part) for part in (study, "claims", result.name))
    keys = [cell_key(cell) for cell in result.cells]
    runs = [
        run
        for cell, (_, sources) in zip(keys, judged.runs, strict=True)
        for run in _runs(sources, cell, judged.stages, coverage)
    ]
    shared = {
        "claim": result.name,
        "marks": "",
        "n": result.n_seeds,
        "formula": result.config.statement,
        "query": judged.query,
        "runs": runs,
    }
    yield key, {**shared, "text": verdict_text(result), "parts": {}, "value": None, "sd": None}
    for i, line in enumerate(lines(result)):
        name = f"{key}.effect" + (f"{i + 1}" if i else "")
        if line.effect != "–":
            interval = "" if line.interval == "none" else line.interval
            text = f"{line.effect} {interval}".rstrip()
            parts = {"value": line.effect, "spread": interval, "delta": ""}
            yield name, {**shared, "text": text, "parts": parts, "value": result.parts[i].effect.estimate, "sd": None}


def task_facts(
    results: Results, states: Iterable[StoredState]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Finished tasks by id (stage, run, seed, commit, when it ended, data fingerprints, place of its environment), and
    the environments. A task of another home has no record here: its environment is None."""
    rows = {row[0]: row[1:] for row in results.warehouse.rows(_ENDS)}
    environments: dict[str, int] = {}
    tasks = {}
    for state in states:
        task = state.task
        if task.task_id not in rows:
            continue
        commit, finished = rows[task.task_id]
        tasks[task.task_id] = {
            "stage": task.stage,
            "kind": task.kind,
            "protocol": task.protocol,
            "run_id": task.run_id,
            "seed": task.seed,
            "state": state.state,
            "commit": commit,
            "finished": finished,
            "data": dict(results.plan.trainer.inputs(task.stage, task.config)),
            "environment": _place(environment(results.plan, task), environments),
        }
    return tasks, [json.loads(text) for text in environments]


def environment(plan: Plan, task: Task) -> Mapping[str, Any]:
    """Device, host and versions of a task that ran in this home; empty for others."""
    record: Mapping[str, Any] = read_record(task.paths(plan.home)) or {}
    found = record.get("environment") or {}
    return {name: found[name] for name in SHOWN if found.get(name)}


def _place(found: Mapping[str, Any], environments: dict[str, int]) -> int | None:
    """Index of an environment in the list, to which a new one is added."""
    return environments.setdefault(json.dumps(found, sort_keys=True), len(environments)) if found else None


def render_numbers_json(numbers: Numbers) -> str:
    """One number a line, so that small differences stay small."""
    data = dict(numbers)
    bodies = []
    for part in ("numbers", "tasks"):
        own = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.pop(part).items())
        bodies.append(f' "{part}": {{\n' + ",\n".join(own) + "\n}")
    head = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False).removesuffix("\n}")
    return ",\n".join([head, *bodies]) + "\n}\n"


def render_numbers_latex(numbers: Numbers) -> str:
    r"""Definitions for `\input`. Each number is there as `key` (value and spread, signs of a draft) and in parts:
    `key.value` without its spread, `key.delta`, the difference to the baseline, and `key.n`, the number of seeds.
    """
    study = key_part(numbers["study"])
    texts = {name: text for key, number in numbers["numbers"].items() for name, text in _macros(key, number)}
    texts |= {key: next(_macros(key, number))[1] for key, number in numbers["numbers"].items()}  # before another's part
    lines = [
        packages_line("".join(texts.values())),
        f"% study {comment(study)}: the numbers of its tables for prose; what is behind each: numbers.json",
        *([] if numbers["final"] else ["% DRAFT: 'ablate report --final' tells what is not final"]),
        _MACROS.replace("STUDY", study),
        *(rf"\ablatenumber{{{name}}}{{{text}}}%" for name, text in texts.items()),
    ]
    return "\n".join(lines) + "\n"


def _macros(key: str, number: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sign = PROSE.sign.format(number["marks"].translate(LATEX_SIGNS)) if number["marks"] else ""
    parts = number["parts"]
    if not parts:
        text = latex(number["text"])
        yield key, (text if "claim" in number else rf"\ablatemissing{{{text}}}") + sign
        return
    yield key, latex(f"{parts['value']} {parts['spread']}".rstrip()) + sign
    yield f"{key}.value", latex(parts["value"]) + sign
    if parts["delta"]:
        yield f"{key}.delta", latex(parts["delta"]) + sign
    yield f"{key}.n", str(number["n"])


_MACROS = r"""% \ablate{STUDY.table.row.column} or, of the first study that is read, \ablate{table.row.column}
\def\ablatenumber#1#2{\expandafter\gdef\csname ablate.\detokenize{#1}\endcsname{#2}}
\ifdefined\ablatestudy\else\edef\ablatestudy{\detokenize{STUDY}}\fi
\def\ablate#1{%
  \ifcsname ablate.\detokenize{#1}\endcsname\csname ablate.\detokenize{#1}\endcsname
  \else\ifcsname ablate.\ablatestudy.\detokenize{#1}\endcsname\csname ablate.\ablatestudy.\detokenize{#1}\endcsname
  \else\ablateunknown{\detokenize{#1}}\fi\fi}
\protected\def\ablateunknown#1{\textbf{??}\PackageError{ablate}{There is no number '#1'}{%
  See numbers.json for the keys that exist, or run ablate report again.}}
\protected\def\ablatemissing#1{\textbf{[#1]}\PackageWarning{ablate}{A number is missing: #1}}"""

_ENDS = """
    select task_id, commit, strftime(finished, '%Y-%m-%dT%H:%M:%SZ')
    from runs where planned and state in ('completed', 'diverged')
"""
