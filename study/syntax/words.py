"""Words of the command line: `key=value` by Hydra's grammar, sorted by what they change, applied to a study."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings
from ablative.study.syntax.factors import level_name
from ablative.study.syntax.yaml_text import DEEPEST

Tree = dict[str, Any]
"""Content of a YAML file, or of a composed configuration."""

STAGE_MARK = ":"
"""`probe:lr` is the key `lr` of the stage `probe` alone."""
_OF_STAGE = re.compile(rf"([A-Za-z_][\w.-]*){STAGE_MARK}([^=]+=.*)", re.DOTALL | re.ASCII)
_WORD = re.compile(r"([A-Za-z_][\w./-]*)=(.*)", re.DOTALL | re.ASCII)
_QUOTED = ("'", '"', "[", "{")
"""How a value begins that is no plain text."""


@dataclass(frozen=True)
class Overrides:
    """Command-line overrides, sorted by what they change."""

    choices: dict[str, str]
    """Config group → option (`model=small`)."""
    values: Tree
    """Key of a configuration → value (`schedule.steps=10`)."""
    study: Tree
    """Key of the study file → value (`seeds=[0,1]`)."""


def parse_words(texts: Sequence[str]) -> Tree:
    """Key → value of `key=value` words; raises ConfigError for anything else.

    Hydra's grammar reads them. What it does not take (`data.path=/x/{0..3}.tar`, `title=Größe`) is text as it is.
    """
    found: Tree = {}
    for text in texts:
        key, value = _parse(text)
        if not _is_finite(value):
            raise ConfigError(f"override '{text}': expected finite numbers")
        found[key] = value
    return found


def _parse(text: str) -> tuple[str, object]:
    if own := _OF_STAGE.fullmatch(text):
        # Hydra's keys have no such mark.
        key, value = _parse(own[2])
        return f"{own[1]}{STAGE_MARK}{key}", value
    # Most commands have no words, and are spared Hydra's import, which costs a quarter of a second.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if text[:1] in ("+", "~"):
        key = text.lstrip("+~").partition("=")[0] or "KEY"
        instead = f"{key}=null takes {key} away" if text[0] == "~" else f"write {key}=VALUE"
        raise ConfigError(f"override '{text}': expected key=value, without '{text[0]}'; {instead}")
    if text.count("[") + text.count("{") > DEEPEST:
        raise ConfigError(f"override '{text[:40]}...': more than {DEEPEST} brackets")
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        return _as_text(text, error)
    if override.is_sweep_override():
        key, _, value = text.partition("=")
        raise ConfigError(
            f"override '{text}': only one value is allowed; sweeps are a study's factors: "
            f"'factors.NAME={{key: {key}, levels: [{value}]}}'; text with a comma goes in quotes: '{key}=\"{value}\"'"
        )
    return override.key_or_group, override.value()


def _as_text(text: str, error: Exception) -> tuple[str, str]:
    match = _WORD.fullmatch(text)
    if match is None:
        raise ConfigError(f"override '{text}': expected key=value") from None
    key, value = match.groups()
    if value.startswith(_QUOTED) or "," in value:
        reason = str(error).split("\n")[0]
        quoted = value.strip("'\"").replace('"', "'")
        raise ConfigError(
            f"override '{text}': {reason}; text with signs of its own goes in quotes, also within [ ] and {{ }}: "
            f"'{key}=\"{quoted}\"'"
        ) from None
    return key, value.strip()


def _is_finite(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in (*value, *value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def unmarked(key: str) -> str:
    """The key without the stage that it is meant for.

    >>> unmarked("probe:lr"), unmarked("lr")
    ('lr', 'lr')
    """
    return key.rpartition(STAGE_MARK)[2]


def sort_words(words: Mapping[str, object], groups: Collection[str], study_keys: Collection[str]) -> Overrides:
    """Words by what they change; keys of configurations are left to the trainer to check."""
    result = Overrides({}, {}, {})
    for key, value in words.items():
        if key in groups:
            result.choices[key] = str(value)
        elif key.split(".")[0] in study_keys:
            result.study[key] = value
        else:
            result.values[key] = value
    return result


def with_words(study: Tree, words: Mapping[str, object]) -> Tree:
    """A study's content with the words that change it; its factors are in their whole form.

    `factors.scale=[small]` keeps these levels of a factor, any other value replaces what is there. Raises ConfigError
    for a level that the factor does not have.
    """
    changed: object
    for key, value in words.items():
        head, _, rest = key.partition(".")
        factors = study.get("factors") if head == "factors" else None
        factor = _factor(rest, factors) if isinstance(factors, Mapping) else None
        if factor is None or factors is None:
            study = set_value(study, key, value)
            continue
        below = rest[len(factor) + 1 :]
        if below:
            changed = _with_level(factors[factor], below, value, f"factors.{factor}")
        elif isinstance(value, list) and isinstance(factors[factor], Mapping):
            changed = _kept(factors[factor], value, key)
        else:
            changed = value
        study = {**study, "factors": {**factors, factor: changed}}
    return study


def _factor(rest: str, factors: Settings) -> str | None:
    """The factor that a word is about; its name may have dots."""
    fit = [name for name in factors if f"{rest}.".startswith(f"{name}.")]
    return max(fit, key=len, default=None)


def _with_level(levels: object, below: str, value: object, where: str) -> Tree:
    """Levels with what a word says of one of them, `small` or `small.data.pairs`: keys of a level are dotted."""
    known = _branch(levels, where)
    level = next((name for name in known if f"{below}.".startswith(f"{name}.")), below.partition(".")[0])
    rest = below[len(level) + 1 :]
    return {**known, level: {**_branch(known.get(level), f"{where}.{level}"), rest: value} if rest else value}


def _branch(found: object, where: str) -> Settings:
    """What a word adds a key to; raises ConfigError where it has none."""
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}: '{found}' is a value, it has no keys below it")
    return found


def _kept(levels: Settings, value: Sequence[object], key: str) -> Tree:
    names = [level_name(item, f"override '{key}'") for item in value]
    for name in names:
        if levels.get(name) is None:
            present = [level for level, meaning in levels.items() if meaning is not None]
            raise ConfigError(unknown("level", name, present, f"override '{key}'"))
    return {level: meaning if level in names else None for level, meaning in levels.items()}


def set_value(tree: Settings, key: str, value: object) -> Tree:
    """A copy of `tree` with the dotted `key` set; only the touched branches are copied."""
    head, _, rest = key.partition(".")
    branch = tree.get(head, {})
    if rest and not isinstance(branch, Mapping):
        raise ConfigError(f"{key}: '{head}' is a value, it has no keys below it")
    return {**tree, head: set_value(branch, rest, value) if rest else value}
