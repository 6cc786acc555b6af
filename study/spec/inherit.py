"""What a study takes away from the one that it starts from (`defaults: [mae_clip_cc, _self_]`): entries set to null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings
from ablative.study.syntax.yaml_text import Document, shown

OUTPUTS = ("tables", "effects", "queries", "figures", "claims")
WITH_COLUMNS = OUTPUTS[:3]

Gone = Mapping[str, frozenset[str] | None]
"""Factor → those of its levels that are taken away; None: all of it."""


def check_own_factors(data: Mapping[str, Any], document: Document) -> None:
    """Refuse a factor or level that is null in a file that starts from no other: there is nothing to take away.

    An empty level (`plain:`) would vanish without a word. `document`: the study's own file.
    """
    factors = data.get("factors")
    if "defaults" in document.lines or not isinstance(factors, Mapping):
        return
    for factor, levels in factors.items():
        where = shown(document.path)
        if levels is None:
            raise ConfigError(f"{where}: factors.{factor}: no levels")
        for level, meaning in levels.items() if isinstance(levels, Mapping) else ():
            if meaning is None:
                raise ConfigError(
                    f"{where}: factors.{factor}.{level}: null takes a level away; one that changes nothing is {{}}"
                )


def without_removed(data: Mapping[str, Any], condition_keys: Sequence[str] = ()) -> dict[str, Any]:
    """A study's content without what is null in it, and without what it says of factors and levels that are.

    `condition_keys`: its trainer's keys that map names to conditions on cells, as `applies` does.
    """
    factors = data.get("factors") or {}
    if not isinstance(factors, Mapping):
        return dict(data)  # reported where factors are read
    gone = {name: _gone(levels) for name, levels in factors.items() if levels is None or _gone(levels)}
    kept = {name: _present(levels, 1) for name, levels in factors.items() if levels is not None}
    found = {**data, "factors": kept}
    removed = [name for name, own in gone.items() if own is None]
    levels = {name: own for name, own in gone.items() if own is not None}
    for key in ("applies", "baseline", *condition_keys):
        if isinstance(data.get(key), Mapping):
            own = {name: what for name, what in _present(data[key]).items() if name not in removed}
            if key in condition_keys:
                own = _for_cells(own, removed, gone)
            found[key] = own if key == "baseline" else {name: _condition(what, gone) for name, what in own.items()}
    if isinstance(data.get("drop"), list):
        found["drop"] = [_condition(item, gone) for item in data["drop"] if not _is_gone(item, gone)]
    for key in OUTPUTS:
        if isinstance(data.get(key), Mapping):
            found[key] = {
                name: _output(each, gone)
                for name, each in _present(data[key]).items()
                if not (isinstance(each, Mapping) and _is_gone(each.get("where"), levels))
            }
    if isinstance(data.get("labels"), Mapping):
        found["labels"] = _labels(data["labels"], gone)
        own = found["labels"].get("columns")
        if isinstance(own, Mapping) and _lacks_outputs(data):
            left = _column_names(found)
            found["labels"]["columns"] = {name: label for name, label in own.items() if str(name) in left}
    return found


def _lacks_outputs(data: Mapping[str, object]) -> bool:
    """Whether an output with columns, or all of a kind, is taken away."""
    own = [data[key] for key in WITH_COLUMNS if key in data]
    return any(each is None or (isinstance(each, Mapping) and None in each.values()) for each in own)


def _column_names(data: Mapping[str, object]) -> set[str]:
    """What the outputs of a study say of their columns that may have a label."""
    found: set[str] = set()
    for outputs in (data.get(key) for key in WITH_COLUMNS):
        for output in outputs.values() if isinstance(outputs, Mapping) else ():
            columns = output.get("columns") if isinstance(output, Mapping) else None
            if isinstance(columns, Mapping):
                found.update(map(str, columns))
                columns = list(columns.values())
            for column in columns if isinstance(columns, list) else ():
                own = column if isinstance(column, Mapping) else {}
                found.update(str(own[key]) for key in ("label", "group") if key in own)
    return found


def _gone(levels: Any) -> frozenset[str] | None:
    if levels is None:
        return None
    return frozenset(str(k) for k, v in levels.items() if v is None) if isinstance(levels, Mapping) else frozenset()


def _present(value: Any, depth: int = 9) -> Any:
    """A mapping without its null entries, down to `depth`; anything else as it is."""
    if not isinstance(value, Mapping) or not depth:
        return value
    return {key: _present(item, depth - 1) for key, item in value.items() if item is not None}


def _listed(levels: Any) -> list[str]:
    return [str(level) for level in levels] if isinstance(levels, list) else [str(levels)]


def _is_gone(condition: Any, gone: Gone) -> bool:
    """Whether a condition is about cells that are no more."""
    if not isinstance(condition, Mapping):
        return False
    named = {factor: gone[factor] for factor in condition if factor in gone}
    return any(own is None or own.issuperset(_listed(condition[factor])) for factor, own in named.items())


def _for_cells(conditions: Settings, removed: Sequence[str], gone: Gone) -> dict[str, object]:
    """Conditions without factors that are gone, which no cell is asked for; without those on cells that are no more."""
    kept = {
        name: {k: v for k, v in what.items() if k not in removed} if isinstance(what, Mapping) else what
        for name, what in conditions.items()
    }
    return {name: what for name, what in kept.items() if not _is_gone(what, gone)}


def _condition(condition: Any, gone: Gone) -> Any:
    """A condition without the levels that are gone; one that would have no other keeps them, and is refused later."""
    if not isinstance(condition, Mapping):
        return condition
    left = {f: [level for level in _listed(own) if level not in (gone.get(f) or ())] for f, own in condition.items()}
    return {factor: left[factor] or own for factor, own in condition.items()}


def _labels(labels: Settings, gone: Gone) -> dict[str, object]:
    """Labels without those of factors and levels that are gone, which any of their parts may have."""

    def left(own: Settings) -> dict[str, object]:
        kept = {factor: what for factor, what in own.items() if gone.get(factor, ()) is not None}
        return {factor: _without(what, gone.get(factor) or frozenset()) for factor, what in kept.items()}

    parts = ("factors", "levels", "axes")
    nested = {part: left(labels[part]) for part in parts if isinstance(labels.get(part), Mapping)}
    return {**left(labels), **nested}


def _without(own: object, levels: frozenset[str]) -> object:
    return (
        {level: label for level, label in own.items() if str(level) not in levels} if isinstance(own, Mapping) else own
    )


def _output(output: Any, gone: Gone) -> Any:
    """A table, figure or claim without the factors and levels that are gone."""
    if not isinstance(output, Mapping) or not gone:
        return output
    removed = {factor for factor, levels in gone.items() if levels is None}
    found = dict(output)
    if isinstance(output.get("where"), Mapping):
        found["where"] = _condition({k: v for k, v in output["where"].items() if k not in removed}, gone)
    for key in ("rows", "factors"):
        if key in output:
            found[key] = [factor for factor in _listed(output[key]) if factor not in removed]
    if output.get("split") in removed:
        del found["split"]
    reference = output.get("reference")
    if isinstance(reference, Mapping) and isinstance(reference.get("levels"), Mapping):
        levels = {
            factor: {level: fields for level, fields in own.items() if level not in (gone.get(factor) or ())}
            for factor, own in reference["levels"].items()
            if factor not in removed
        }
        found["reference"] = {**reference, "levels": levels}
    return found
