"""The forms in which a factor may be written, and the one form that everything else reads: level → overrides."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings

WHOLE = "{map: {model.pooling: map}, gap: {model.pooling: gap}}"
SHORT = "{key: model.pooling, levels: [map, gap]}"
"""Examples for messages."""

Levels = dict[str, object]
"""Level → the overrides that it means; None: the level is taken away."""


def whole_factors(
    factors: object, where: str, groups: Collection[str] = (), kept: Collection[str] = ()
) -> dict[str, Levels | None]:
    """Factor → its levels, whatever form they are written in; None: the factor is taken away.

    Args:
        factors: what a study says under `factors`.
        where: its file, for messages.
        groups: config groups; one whose name a factor has is what its listed levels choose from.
        kept: keys of a level whose values are no overrides.

    Raises:
        ConfigError: anything else, with an example of the form.
    """
    if not isinstance(factors, Mapping):
        raise ConfigError(f"{where}: factors: expected factor: levels, as in pooling: {WHOLE}, found {brief(factors)}")
    found: dict[str, Levels | None] = {}
    for name, levels in factors.items():
        factor = _word(name, f"{where}: factors")
        at = f"{where}: factors.{factor}"
        if levels is None:
            found[factor] = None
        elif isinstance(levels, Mapping) and not _is_short(levels):
            found[factor] = _whole(levels, at, kept)
        elif isinstance(levels, Mapping):
            found[factor] = _short(levels, at)
        elif "." in factor or factor in groups:
            found[factor] = _listed(factor, levels if isinstance(levels, list) else [levels], at)
        else:
            raise ConfigError(
                f"{at}: found {brief(levels)}, which does not say what it sets; write {factor}: {SHORT}, or {factor}: "
                f"{WHOLE}"
            )
    return found


def level_name(value: object, where: str) -> str:
    """The name of a level in a list, as YAML writes the value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise ConfigError(f"{where}: expected the name of a level, found {brief(value)}")


def text_value(value: object, where: str) -> str:
    """A text, or a number or truth value that is meant as one; raises ConfigError for a list or a mapping."""
    if isinstance(value, list | tuple | Mapping):
        raise ConfigError(f"{where}: expected text, found {brief(value)}")
    return str(value)


def as_written(value: object) -> str:
    """A value as one writes it on the command line, cut where it is long."""
    return value if isinstance(value, str) and len(value) <= 60 else brief(value)


def brief(value: object) -> str:
    """A value as YAML writes it, on one short line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_short(levels: Settings) -> bool:
    """Whether it is meant as `{key: …, levels: …}`: a level's own value is a mapping."""
    named = isinstance(levels.get("key"), str)
    return named or isinstance(levels.get("levels"), list)


def _short(data: Settings, at: str) -> Levels:
    if set(data) != {"key", "levels"} or not isinstance(data["key"], str) or not data["key"]:
        raise ConfigError(f"{at}: the short form has a key and its levels, as in {SHORT}; found {brief(dict(data))}")
    key, levels = data["key"], data["levels"]
    if isinstance(levels, Mapping):
        named = {_word(name, f"{at}.levels"): value for name, value in levels.items()}
        return {name: None if value is None else {key: value} for name, value in named.items()}
    return _listed(key, levels if isinstance(levels, list) else [levels], f"{at}.levels")


def _listed(key: str, values: Sequence[object], at: str) -> Levels:
    found: Levels = {}
    for value in values:
        if value is None or isinstance(value, list | Mapping):
            raise ConfigError(
                f"{at}: {brief(value)} has no name; write {{key: {key}, levels: {{NAME: {brief(value)}}}}}"
                if value is not None
                else f"{at}: null is no value of {key}"
            )
        name = level_name(value, at)
        if name in found:
            raise ConfigError(f"{at}: the level {name} is there twice; give both names: levels: {{NAME: {name}}}")
        found[name] = {key: value}
    return found


def _whole(levels: Settings, at: str, kept: Collection[str]) -> Levels:
    found: Levels = {}
    for name, meaning in levels.items():
        level = _word(name, at)
        if level in found:
            raise ConfigError(f"{at}: the level {level} is there twice")
        if meaning is not None and not isinstance(meaning, Mapping):
            raise ConfigError(
                f"{at}.{level}: expected the overrides that the level means (key: value), as in "
                f"{level}: {{model.pooling: map}}, found {brief(meaning)}"
            )
        found[level] = None if meaning is None else _flat(meaning, f"{at}.{level}", kept)
    return found


def _flat(meaning: Settings, at: str, kept: Collection[str]) -> Levels:
    """Overrides with dotted keys: `{model: {pooling: map}}` is `{model.pooling: map}`.

    A mapping under a dotted key is a value: it replaces what is there, as it does on the command line.
    """
    found: Levels = {}
    for key, value in meaning.items():
        nested = isinstance(value, Mapping) and value and "." not in str(key) and key not in kept
        for name, item in _leaves(value, str(key)) if nested else [(str(key), value)]:
            if name in found:
                raise ConfigError(f"{at}: sets {name} twice")
            found[name] = item
    return found


def _leaves(value: object, prefix: str) -> list[tuple[str, object]]:
    if not isinstance(value, Mapping) or not value:
        return [(prefix, value)]
    return [leaf for key, item in value.items() for leaf in _leaves(item, f"{prefix}.{key}")]


def _word(name: object, where: str) -> str:
    """A factor's or level's name; YAML reads bare on, off, yes and no as truth values."""
    if isinstance(name, bool):
        raise ConfigError(f"{where}: a level named {name} was read as true or false; put it in quotes")
    return level_name(name, where)
