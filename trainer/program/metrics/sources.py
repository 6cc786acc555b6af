"""Where a program's metrics are: the declaration `metrics:` of a stage, as sources."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import build, field
from ablative.study.installed_trainers import accepted_name
from ablative.trainer.program.metrics.tails import is_glob

KINDS = ("jsonl", "json", "csv", "stdout", "tensorboard", "mlflow")
"""Keys that say where a metric is read; a metric without one of them is `REPORTED`."""
REPORTED = "reported"
"""The program hands its values to `ablative.log`."""
TAKES = ("last", "best", "min", "max", "mean")
STAR = "*"
"""Place of the key in the name of a declaration that takes several metrics from one source."""
_WITH_STEP = ("jsonl", "json", "csv")
"""Kinds whose records hold the step under a key that the user chooses."""
_WORD = re.compile(r"\{(\w[\w.]*)\}")
_VALUE = "value"
_EXPECTED = {
    "stdout": "a regular expression that each line of the output is searched for",
    "tensorboard": "a folder below the outputs",
    "mlflow": "the name that the program logs it by, or 'true'",
}


@dataclass(frozen=True)
class MetricSource:
    """One metric, and where its values are."""

    name: str
    """The declared name, without the stage; it may hold `{words}` that `filled` fills."""
    kind: str
    """One of `KINDS`, or `REPORTED`."""
    file: str = ""
    """Relative to the task's folder of outputs; it may be a glob. TensorBoard: a folder. MLflow: empty for the store
    that `prepare_mlflow` made."""
    key: str = ""
    """Place in the record: a dotted path, column, tag, MLflow's name, or the group of the regular expression."""
    step: str = "step"
    """Key of the step in a record; where a record has none, its number is the step."""
    pattern: str = ""
    """Regular expression that is searched in each line of the output."""
    scale: float = 1.0
    better: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    take: str = "last"
    """Which of its values is the result."""
    diverges: bool = False
    """A value that is not finite means that the run diverged."""


@dataclass(frozen=True)
class DeclaredMetric:
    """A declaration as it is written."""

    jsonl: str | None = field(None)
    """File with a JSON object in each line."""
    json: str | None = field(None)
    """File with one JSON document."""
    csv: str | None = field(None)
    """File with a header; `key` is a column."""
    stdout: str | None = field(None)
    """Regular expression, searched in each line of the output; `(?P<value>…)` is the number, `(?P<step>…)` the step."""
    tensorboard: str | None = field(None)
    """Folder with TensorBoard's event files; `key` is a tag."""
    mlflow: object = field(None)
    """Name that the program logs it by to MLflow, or true with `key`."""
    file: str = field("")
    """MLflow: file of another store than the task's own."""
    key: str = field("")
    """Dotted key, column, tag or group of the value; empty: the name of the metric."""
    keys: tuple[str, ...] = field(())
    """Keys of several metrics: their names take the place of `*`."""
    rename: dict[str, str] = dataclasses.field(default_factory=dict)
    """Key → name in place of `*`."""
    step: str = field("")
    """Key of the step in a record; empty: `step`."""
    scale: float = field(1.0)
    """What values are multiplied by (100 for percent)."""
    better: str = field("", choices=("", "higher", "lower"))
    """Which values are better; empty: neither."""
    unit: str = field("")
    """What is printed after a value."""
    low: float | None = field(None)
    """Lowest value that can be; a report refuses lower ones."""
    high: float | None = field(None)
    """Highest value that can be."""
    take: str = field("last", choices=TAKES)
    """Which of its values is the result; `best` needs `better`."""
    diverges: bool = field(False)
    """A value that is not finite means that the run diverged."""


def parse_metrics(data: object, where: str) -> tuple[MetricSource, ...]:
    """The sources that a stage's `metrics:` declares.

    Forms: a list of names (`[accuracy]`), all reported by the program; or names and what is known of each: nothing,
    `higher` or `lower`, or a mapping (`{jsonl: log.jsonl, key: val_loss, better: lower}`). A name with a star takes
    several from one source: `"val/*": {jsonl: log.jsonl, keys: [loss, acc], rename: {R@5: recall_at_5}}`.

    Args:
        data: as YAML gives it.
        where: dotted key of the declaration, for messages.

    Raises:
        ConfigError: a name, key or value that cannot be meant.
    """
    found = list(_named(data, where))
    sources = [source for name, declared in found for source in _sources(name, declared, f"{where}.{name}")]
    first: dict[str, MetricSource] = {}
    for source in sources:
        if source.name in first:
            raise ConfigError(f"{where}: metric '{source.name}' is declared twice")
        first[source.name] = source
    return tuple(sources)


def filled(source: MetricSource, words: Mapping[str, str], where: str) -> MetricSource:
    """The source with the values of its `{words}`, literally also in the regular expression.

    Braces around anything that is no word stay as they are in patterns, which have braces for themselves.

    Raises:
        ConfigError: a name or file with a word that there is not, or a name that MLflow does not take.
    """

    def fill(text: str, what: str) -> str:
        for match in _WORD.finditer(text):
            if match[1] not in words:
                raise ConfigError(unknown("word", match[1], words, f"{where}.{source.name}: {what}"))
        return _WORD.sub(lambda match: words[match[1]], text)

    name = fill(source.name, "name")
    _check_name(name, f"{where}.{source.name}", source)
    pattern = _WORD.sub(
        lambda match: re.escape(words[match[1]]) if match[1] in words else match[0],
        source.pattern,
    )
    return replace(source, name=name, file=fill(source.file, "file"), key=fill(source.key, "key"), pattern=pattern)


def _named(data: object, where: str) -> Iterator[tuple[str, DeclaredMetric]]:
    if isinstance(data, str):
        data = [data]
    if isinstance(data, Sequence):
        for item in data:
            if not isinstance(item, str):
                raise ConfigError(
                    f"{where}: found {item!r} in the list; a list holds names alone, and 'name: {{jsonl: FILE, "
                    "key: KEY}' says where a metric is"
                )
            yield item, DeclaredMetric()
        return
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected names of metrics, found {data!r}")
    for name, value in data.items():
        at = f"{where}.{name}"
        if value is None:
            yield str(name), DeclaredMetric()
        elif isinstance(value, str):
            if value not in ("higher", "lower"):
                how = f"or where it is: {{KIND: FILE}}, of the kinds {', '.join(KINDS)}"
                raise ConfigError(f"{unknown('direction', value, ('higher', 'lower'), at)}, {how}")
            yield str(name), DeclaredMetric(better=value)
        else:
            yield str(name), build(DeclaredMetric, value, at)


def _sources(name: str, declared: DeclaredMetric, at: str) -> Iterator[MetricSource]:
    kind, place = _kind(declared, at)
    _check_options(declared, kind, at)
    shared = MetricSource(
        "",
        kind,
        file="" if kind == "stdout" else output_file(declared.file if kind == "mlflow" else place, at),
        step=declared.step or "step",
        pattern=place if kind == "stdout" else "",
        scale=declared.scale,
        better=declared.better,
        unit=declared.unit,
        low=declared.low,
        high=declared.high,
        take=declared.take,
        diverges=declared.diverges,
    )
    for own, key in _names(name, declared, at):
        source = replace(shared, name=own, key=key or declared.key or _default_key(own, kind, place, at))
        _check_name(_WORD.sub("x", own), at, source)
        if kind == "stdout":
            _check_group(source, at)
        yield source


def _names(name: str, declared: DeclaredMetric, at: str) -> Iterator[tuple[str, str]]:
    """Name and key of each metric of a declaration; an empty key means what the kind makes of the name."""
    renamed = declared.rename
    if STAR not in name:
        if declared.keys or declared.rename:
            given = "keys" if declared.keys else "rename"
            raise ConfigError(f"{at}: {given}: it names one metric, whose key is 'key'; '*' in the name takes several")
        yield name, ""
        return
    if name.count(STAR) > 1:
        raise ConfigError(f"{at}: two stars; expected one, in the place of the key")
    if declared.key or not (declared.keys or renamed):
        raise ConfigError(
            f"{at}: '*' takes several metrics of one source; name them by 'keys: [KEY, …]' or 'rename: {{KEY: NAME}}'"
        )
    for key in dict.fromkeys((*declared.keys, *renamed)):
        yield name.replace(STAR, renamed.get(key, key)), key


def _kind(declared: DeclaredMetric, at: str) -> tuple[str, str]:
    """Kind of the source, and its file or pattern; MLflow's name of the metric."""
    given = {kind: getattr(declared, kind) for kind in KINDS if getattr(declared, kind) is not None}
    if len(given) > 1:
        raise ConfigError(f"{at}: two sources, {' and '.join(given)}; a metric has one")
    if not given:
        return REPORTED, ""
    kind, place = next(iter(given.items()))
    if place == "":
        raise ConfigError(f"{at}.{kind}: empty; expected {_EXPECTED.get(kind, 'a file below the outputs')}")
    if kind == "mlflow":
        if place is not True and not isinstance(place, str):
            raise ConfigError(f"{at}.mlflow: found {place!r}; expected {_EXPECTED[kind]}")
        return kind, place if isinstance(place, str) else ""
    return kind, str(place)


def _default_key(name: str, kind: str, place: str, at: str) -> str:
    if kind != "stdout":
        return place if kind == "mlflow" and place else name
    pattern = _compiled(place, at)
    if _VALUE in pattern.groupindex or pattern.groups != 1 or "step" in pattern.groupindex:
        return _VALUE
    return next(iter(pattern.groupindex), "1")


def _check_options(declared: DeclaredMetric, kind: str, at: str) -> None:
    if declared.step and kind not in _WITH_STEP:
        own = {
            "stdout": "the pattern's group (?P<step>…) is the step",
            REPORTED: "the step is what the program hands to ablative.log",
        }.get(kind, f"records of {kind} have a step")
        raise ConfigError(f"{at}.step: {own}")
    if declared.file and kind != "mlflow":
        other = f"{kind}: FILE" if kind in KINDS and kind != "stdout" else "jsonl: FILE"
        raise ConfigError(f"{at}.file: only of 'mlflow'; write '{other}'")
    if isinstance(declared.mlflow, str) and declared.mlflow and (declared.key or declared.keys or declared.rename):
        raise ConfigError(f"{at}.mlflow: the metric's name twice; write 'mlflow: true' with 'key' or 'keys'")
    if declared.take == "best" and not declared.better:
        raise ConfigError(f"{at}.take: 'best' needs 'better: higher' or 'better: lower'")
    if declared.low is not None and declared.high is not None and declared.low > declared.high:
        raise ConfigError(f"{at}: its bounds are {declared.low} and {declared.high}")
    if declared.scale == 0:
        raise ConfigError(f"{at}.scale: 0 makes every value 0")


def output_file(path: str, at: str) -> str:
    """A file's name, or a pattern of some, relative to the task's outputs; raises ConfigError for one elsewhere."""
    path = "." if path == "{out}" else path.removeprefix("{out}/").removeprefix("./")
    if path.startswith(("/", "~", "{out}")) or ".." in path.split("/"):
        raise ConfigError(
            f"{at}: file '{path}'; expected one below the task's outputs, which the command gets as {{out}}"
        )
    try:
        any(Path(os.devnull).glob(path) if is_glob(path) else ())
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"{at}: file '{path}': no file name, nor a pattern of some: {error}") from None
    return path


def _check_name(name: str, at: str, source: MetricSource) -> None:
    better = accepted_name(name)
    if better == name:
        return
    if at.endswith(STAR) or STAR in at.rpartition("/")[2]:
        how = f"'rename: {{{source.key}: {accepted_name(source.key)}}}'"
    elif source.kind == REPORTED:
        how = f"'{better}: {{key: {source.key}}}'"
    else:
        how = f"'{better}: {{{source.kind}: …, key: {source.key}}}'"
    raise ConfigError(f"{at}: MLflow takes no metric of the name '{name}'; write {how}")


@functools.cache
def _compiled(pattern: str, at: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{at}.stdout: no regular expression: {error}") from None


def _check_group(source: MetricSource, at: str) -> None:
    pattern = _compiled(source.pattern, at)
    if source.key in pattern.groupindex or source.key == "1":
        return
    if not pattern.groupindex or source.key == _VALUE:
        named = [group for group in pattern.groupindex if group != "step"]
        other = f", or say 'key: GROUP' (groups: {', '.join(named)})" if named else ""
        raise ConfigError(
            f"{at}.stdout: '{source.pattern}': which part is the number? write (?P<value>\\S+) there{other}"
        )
    raise ConfigError(unknown("group", source.key, pattern.groupindex, f"{at}.stdout"))
