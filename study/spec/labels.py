"""How a study's factors, levels, metrics, columns, units and axes are printed: the key `labels` of a study file."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.syntax.factors import brief, level_name
from ablative.study.syntax.metric_patterns import expand

LEVELS = "levels"
PARTS = ("factors", LEVELS, "metrics", "columns", "units", "axes")
"""Keys of `labels`; any other one is a factor, with the labels of its levels."""
KINDS = {"columns": "column", "units": "unit", "axes": "axis"}
FORM = "a text, or {text: λ, latex: $\\lambda$}"


class Label(str):
    """A printed text, with what LaTeX prints in its place."""

    latex: str
    """LaTeX that is set as it is; empty: the text, escaped."""
    parts: tuple[str, ...]
    """What the text is joined of, where a part has its LaTeX."""

    def __new__(cls, text: str, latex: str = "", parts: Sequence[str] = ()) -> Label:
        self = super().__new__(cls, text)
        self.latex, self.parts = latex, tuple(parts)
        return self


def joined(separator: str, texts: Iterable[str]) -> Label:
    """Texts as one; in LaTeX, each as its label has it."""
    own = list(texts)
    pieces = [piece for text in own for piece in (separator, text)][1:]
    special = any(isinstance(text, Label) and (text.latex or text.parts) for text in own)
    return Label(separator.join(own), parts=pieces if special else ())


@dataclass(frozen=True)
class StudyLabels:
    """What a study file says of names: each name that has no label here is printed as it is."""

    factors: Mapping[str, Label] = dataclasses.field(default_factory=dict)
    levels: Mapping[str, Mapping[str, Label]] = dataclasses.field(default_factory=dict)
    """Factor → level → label."""
    metrics: Mapping[str, Label] = dataclasses.field(default_factory=dict)
    """Metric, or pattern of metrics → label; a pattern's names what is measured, and the data set follows it."""
    columns: Mapping[str, Label] = dataclasses.field(default_factory=dict)
    """A column's `label` or `group`, as the table declares it → label: keys of numbers are made of the former."""
    units: Mapping[str, Label] = dataclasses.field(default_factory=dict)
    axes: Mapping[str, Label] = dataclasses.field(default_factory=dict)
    """What an axis shows (a factor, metric, parameter, `step`, a figure's `position`) → its title."""


def parse_labels(data: object, factors: Mapping[str, Collection[str]], where: str) -> StudyLabels:
    """The labels that a study file gives; raises ConfigError for unknown factors and levels, and for equal labels.

    Args:
        data: content of the key `labels`.
        factors: factor → its levels.
        where: for messages; ends with the key.
    """
    if data is None:
        return StudyLabels()
    whole = _mapping(data, where)
    levels = {name: (own, f"{where}.{name}") for name, own in whole.items() if name not in PARTS}
    below = f"{where}.{LEVELS}"
    levels |= {name: (own, f"{below}.{name}") for name, own in _mapping(whole.get(LEVELS), below).items()}
    for name in levels:
        if name not in factors:
            raise ConfigError(unknown("factor", name, [*factors, *PARTS], where))
    texts = {part: _texts(whole.get(part), f"{where}.{part}") for part in PARTS if part != LEVELS}
    for name in texts["factors"]:
        if name not in factors:
            raise ConfigError(unknown("factor", name, factors, f"{where}.factors"))
    _check_distinct(texts["factors"], factors, f"{where}.factors", "factor")
    _check_distinct(texts["metrics"], (), f"{where}.metrics", "metric")
    return StudyLabels(levels={name: _levels(*own, factors[name]) for name, own in levels.items()}, **texts)


def check_labelled(
    labels: StudyLabels, metrics: Sequence[str], others: Mapping[str, Iterable[str]], where: str
) -> None:
    """Raise ConfigError for a label of a metric, or of something else, that the study does not have.

    Args:
        labels: of the study.
        metrics: names of all that its tasks may yield.
        others: part of the labels (`columns`) → what may have a label there.
        where: for messages; ends with the key.
    """
    for pattern in labels.metrics:
        if not expand(pattern, list(metrics)):
            raise ConfigError(unknown("metric", pattern, metrics, f"{where}.metrics"))
    for part, names in others.items():
        known = set(names)
        for name in getattr(labels, part):
            if name not in known:
                raise ConfigError(unknown(KINDS[part], name, known, f"{where}.{part}"))


def _levels(data: object, where: str, known: Collection[str]) -> dict[str, Label]:
    found = _texts(data, where)
    for level in found:
        if level not in known:
            raise ConfigError(unknown("level", level, known, where))
    _check_distinct(found, known, where, "level")
    return found


def _texts(data: object, where: str) -> dict[str, Label]:
    return {name: _label(value, f"{where}.{name}") for name, value in _mapping(data, where).items()}


def _label(data: object, where: str) -> Label:
    variants = data if isinstance(data, Mapping) else {"text": data}
    text, latex = variants.get("text"), variants.get("latex", "")
    if isinstance(text, bool) or not isinstance(text, str | int | float) or not isinstance(latex, str):
        raise ConfigError(f"{where}: expected {FORM}, found {brief(data)}")
    for key in variants:
        if key not in ("text", "latex"):
            raise ConfigError(unknown("key", str(key), ("text", "latex"), where))
    if not str(text).strip() or len(str(text).splitlines()) > 1:
        raise ConfigError(f"{where}: expected a text on one line, found {brief(text)}")
    return Label(str(text), latex)


def _mapping(data: object, where: str) -> dict[str, object]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected names and labels, as in {{clip: CLIP}}, found {brief(data)}")
    return {level_name(name, where): value for name, value in data.items() if value is not None}


def _check_distinct(labels: Mapping[str, Label], names: Iterable[str], where: str, kind: str) -> None:
    """Two of a kind that are printed alike cannot be distinguished; one without a label is printed as its name."""
    printed: dict[str, str] = {}
    for name in dict.fromkeys([*names, *labels]):
        text = str(labels.get(name, name))
        if text in printed:
            raise ConfigError(f"{where}: the {kind}s '{printed[text]}' and '{name}' are both printed as '{text}'")
        printed[text] = name
