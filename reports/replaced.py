"""What the report in a folder covers, so that the next one says where it covers less."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablative.reports.store.results import Results
from ablative.study.core.files import read_json, write_json
from ablative.study.core.plurals import counted
from ablative.study.home.task_state import FINISHED

FILE = "coverage.json"
SHAPE = {"asked": str, "finished": [str], "outputs": [str]}


def note_replaced(results: Results, out: Path) -> tuple[str, ...]:
    """Keep what this report covers in its folder; a line where the one that it replaces covered more."""
    now = _covered(results)
    before = read_json(out / FILE, SHAPE)
    write_json(out / FILE, now)
    line = "" if before is None else _lost(before, now, len(results.coverage.states))
    return (line,) if line else ()


def _covered(results: Results) -> dict[str, Any]:
    study = results.study
    finished = sorted(state.task.task_id for state in results.coverage.states.values() if state.state in FINISHED)
    tables = {**study.tables, **study.effects, **study.queries}
    kinds = {"table": list(tables), "figure": list(study.figures), "claim": list(study.claims)}
    outputs = [f"{kind} '{name}'" for kind, names in kinds.items() for name in names]
    return {"asked": results.plan.asked, "finished": finished, "outputs": outputs}


def _lost(before: Mapping[str, Any], now: Mapping[str, Any], planned: int) -> str:
    """What the former report had and this one has not; empty where it has all of it."""
    tasks = len(set(before["finished"]) - set(now["finished"]))
    outputs = [name for name in before["outputs"] if name not in now["outputs"]]
    what = [f"{tasks} of its {counted(len(before['finished']), 'finished task')}"] if tasks else []
    what += [", ".join(outputs)] if outputs else []
    if not what:
        return ""
    here = f"{len(now['finished'])} of {counted(planned, 'task')} finished"
    fuller = outputs or len(before["finished"]) > len(now["finished"])
    lacks = f"replaces {'a fuller one' if fuller else 'another'}, of which it lacks {' and '.join(what)}"
    return f"this report ({here}) {lacks}; that one was: ablate report {before['asked']}"
