"""`ablate report --since TAG`: which published numbers moved, appeared or vanished since a kept report, and why.

`--tag TAG` keeps a report's `numbers.json`; two of them are compared number by number, and a number's reasons are what
changed in the runs behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.provenance.finding_inputs import changed_keys
from ablative.reports.provenance.numbers import Numbers, unfolded, write_numbers_json
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.files import read_json
from ablative.study.plan.task import TRAIN

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan

MOVED, APPEARED, VANISHED, RENAMED = "moved", "appeared", "vanished", "renamed"

OTHERS = "other numbers of its column: the baseline, or the spread that they share"
GRID = "runs of the grid behind it"
"""Reasons of a number whose own runs are what they were, and of an effect."""

Changed = Callable[[str, str], str]
"""(former run id, run id) -> in which keys their configurations differ; empty where it is not known."""


@dataclass(frozen=True)
class Move:
    """One number that is not what it was."""

    key: str
    kind: str
    """moved | appeared | vanished | renamed"""
    before: str
    """The number as it was printed; empty for one that was not there."""
    now: str
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "reasons": list(self.reasons)}


def free(folder: Path, tag: str) -> Path:
    """The file that a new tag gets; raises ConfigError for a name that is taken (what was submitted stays), or is no
    file's."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", tag):
        raise ConfigError(f"tag '{tag}': its name becomes a file's; use letters, digits, '_', '-' and '.' only")
    path = folder / f"{tag}.json"
    if path.exists():
        raise ConfigError(f"tag '{tag}' is taken ({path}); choose another name, or remove that file first")
    return path


def keep(numbers: Numbers, folder: Path, tag: str) -> Path:
    """Keep a report's numbers under a name."""
    path = free(folder, tag)
    write_numbers_json(path, numbers)
    return path


def kept(folder: Path, tag: str) -> Numbers:
    """Numbers that were kept; raises ConfigError for a name that is not there, or a file that is none of ours."""
    path = folder / f"{tag}.json"
    if not path.exists():
        known = [each.stem for each in folder.glob("*.json")]
        raise ConfigError(f"{unknown('tag', tag, known, str(folder))}; 'ablate report STUDY --tag NAME' keeps a report")
    found: Numbers | None = read_json(path, {"numbers": {str: {"text": str}}, "tasks": dict, "environments": list})
    if found is None:
        raise ConfigError(f"{path}: not a report that --tag has kept")
    return found


def compared(plan: Plan, before: Numbers, now: Numbers) -> tuple[Move, ...]:
    """`moves`, with the keys that changed of those configurations that lie in the plan's home."""
    return moves(before, now, lambda former, run: changed_keys(plan, former, run))


def moves(before: Numbers, now: Numbers, changed: Changed = lambda former, run: "") -> tuple[Move, ...]:
    """Every number whose printed text or name differs, in the order of the report; vanished ones last."""
    found = []
    renamed = _renamed(before, now)
    for key, number in now["numbers"].items():
        name = renamed.get(key, key)
        former = before["numbers"].get(name)
        called = (f"it was called {name}",) if name != key else ()
        if former is None:
            found.append(Move(key, APPEARED, "", number["text"], _why_new(before, number)))
        elif former["text"] != number["text"]:
            reasons = _reasons(unfolded(before, name), unfolded(now, key), before, now, changed)
            found.append(Move(key, MOVED, former["text"], number["text"], (*called, *reasons)))
        elif called:
            found.append(Move(key, RENAMED, former["text"], number["text"], called))
    gone = set(before["numbers"]) - set(now["numbers"]) - set(renamed.values())
    for key, former in before["numbers"].items():
        if key in gone:
            found.append(Move(key, VANISHED, former["text"], "", ("its place is no longer in the study",)))
    return tuple(found)


def _renamed(before: Numbers, now: Numbers) -> dict[str, str]:
    """Key of a new number → the key that it had: the same table, formula and runs, under other names of levels."""
    old, new = (_by_identity(one, other) for one, other in ((before, now), (now, before)))
    pairs = [(new[identity], keys) for identity, keys in old.items() if len(new.get(identity, ())) == len(keys)]
    return {name: key for names, keys in pairs for name, key in zip(names, keys, strict=True)}


def _by_identity(numbers: Numbers, others: Numbers) -> dict[tuple[object, ...], list[str]]:
    """What identifies a number apart from its name → keys, in order, of those whose names `others` has not."""
    found: dict[tuple[object, ...], list[str]] = {}
    for key in numbers["numbers"]:
        if key not in others["numbers"]:
            number = unfolded(numbers, key)
            runs = [(run["run_id"], run["seed"], *run["tasks"]) for run in number["runs"]]
            if what := runs or number["value"]:  # of an effect, whose runs are a whole grid's
                name = number.get("table", number.get("claim"))
                found.setdefault((name, number["formula"], str(what)), []).append(key)
    return found


def unseen(before: Numbers, now: Numbers) -> int:
    """How many numbers print as before although their further digits or the runs behind them have changed."""
    alike = (
        key
        for key, number in now["numbers"].items()
        if key in before["numbers"] and before["numbers"][key]["text"] == number["text"]
    )
    return sum(_behind(before, key) != _behind(now, key) for key in alike)


def _behind(numbers: Numbers, key: str) -> tuple[float | None, list[Mapping[str, Any]]]:
    number = unfolded(numbers, key)
    return number["value"], number["runs"]


def render_moves_text(found: Sequence[Move], tag: str, hidden: int) -> str:
    """Moves as text for the terminal: a line for each number, its reasons below it."""
    if not found:
        lines = [f"since {tag}: every published number prints as it did"]
    else:
        counts = {kind: sum(move.kind == kind for move in found) for kind in (MOVED, APPEARED, VANISHED, RENAMED)}
        lines = [f"since {tag}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)]
    for move in found:
        texts = {MOVED: f"{move.before} → {move.now}", APPEARED: f"new: {move.now}", VANISHED: f"was {move.before}"}
        texts[RENAMED] = f"{move.now}, as it was"
        lines.append(f"  {move.key}: {texts[move.kind]}")
        lines += [f"      {reason}" for reason in move.reasons]
    if hidden:
        lines.append(f"{hidden} more print as they did, over other runs or with other hidden digits")
    return "\n".join(lines)


def _why_new(before: Numbers, number: Mapping[str, Any]) -> tuple[str, ...]:
    tables = {each.get("table", each.get("claim")) for each in before["numbers"].values()}
    name = number.get("table", number.get("claim"))
    what = "its table or claim is new" if name not in tables else "its row or column is new, or has another name"
    return (what,)


def _reasons(
    former: Mapping[str, Any], number: Mapping[str, Any], before: Numbers, now: Numbers, changed: Changed
) -> tuple[str, ...]:
    """What changed behind a number."""
    old = {(run["run_id"], run["seed"]): run for run in former["runs"]}
    new = {(run["run_id"], run["seed"]): run for run in number["runs"]}
    reasons = []
    if former["formula"] != number["formula"]:
        reasons.append(f"its formula: {former['formula']} → {number['formula']}")
    lost, added = [key for key in old if key not in new], [key for key in new if key not in old]
    for run, seed in added:
        twins = [other for other, its in lost if its == seed]
        if twins:
            lost.remove((twins[0], seed))
            keys = changed(twins[0], run)
            why = f" ({keys})" if keys else ""
            reasons.append(f"seed {seed}: another configuration, run {twins[0]} → {run}{why}")
        else:
            reasons.append(f"seed {seed} added: run {run}")
    reasons += [f"seed {seed} is missing: run {run}" for run, seed in lost]
    for key in old:
        if key in new:
            reasons += [f"seed {key[1]}: {why}" for why in _again(old[key], new[key], before, now)]
    if not reasons:
        reasons.append(OTHERS if former["runs"] else GRID)
    return tuple(dict.fromkeys(reasons))


def _again(old: Mapping[str, Any], new: Mapping[str, Any], before: Numbers, now: Numbers) -> list[str]:
    """What differs in the tasks of a run that is behind a number before and now."""
    reasons = []
    gone = [task for task in old["tasks"] if task not in new["tasks"]]
    come = [task for task in new["tasks"] if task not in old["tasks"]]
    if gone or come:
        reasons.append(f"measured otherwise: {' '.join(gone) or 'nothing'} → {' '.join(come) or 'nothing'}")
    for task in old["tasks"]:
        one, other = before["tasks"].get(task), now["tasks"].get(task)
        if task not in new["tasks"] or one is None or other is None:
            continue
        details = _details(one, other, before["environments"], now["environments"])
        if one["finished"] != other["finished"] or details:
            what = one.get("stage") or one["protocol"] or TRAIN  # kept reports of early versions have no stage
            reasons.append(f"{what} again, {one['finished']} → {other['finished']}" + "".join(details))
    if not reasons and old["value"] != new["value"]:
        reasons.append(f"another value, {old['value']} → {new['value']}, of the same tasks: the store was edited")
    return reasons


def _details(one: Mapping[str, Any], other: Mapping[str, Any], before: Sequence[Any], now: Sequence[Any]) -> list[str]:
    """Code, data and versions in which two attempts at a task differ."""
    found = _code(one, other)
    for name in {**one["data"], **other["data"]}:
        a, b = one["data"].get(name), other["data"].get(name)
        found += [f"; data {name}: {a} → {b}"] if a != b else []
    a, b = (_flat(task["environment"], places) for task, places in ((one, before), (other, now)))
    if a and b:  # the environment of another home's task is not known
        found += [f"; {name} {a.get(name)} → {b.get(name)}" for name in {**a, **b} if a.get(name) != b.get(name)]
    return found


def _code(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Commits that differ, and whether files that count as code do: of edited code, a commit says too little."""
    before, now = one.get("sources"), other.get("sources")
    if one["commit"] != other["commit"]:
        same = " (no code has changed)" if before and before == now else ""
        return [f"; code {one['commit']} → {other['commit']}{same}"]
    return [f"; code {one['commit']} with other files, {before} → {now}"] if before and now and before != now else []


def _flat(place: int | None, environments: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    if place is None:
        return {}
    own = environments[place]
    return {name: str(own[name]) for name in ("device", "python") if name in own} | dict(own.get("packages") or {})
