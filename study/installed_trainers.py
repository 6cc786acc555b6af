"""Trainers by name, the shipped ones and those of other distributions; and what they answer, checked."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablative.study.core.errors import AblateError, ConfigError, unknown
from ablative.study.core.extras import EXTRAS
from ablative.study.core.packages import folder
from ablative.study.core.plugins import Plugins
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.sections import Choices, Values
from ablative.study.starts import Resumption, Started
from ablative.study.trainer_names import GROUP, SHIPPED, SHIPPED_CONF
from ablative.study.trainers import RESERVED_STAGES, Code, Configurations, Metric, Progress, Request, Stage, Trainer

REQUIRED = ("name", "entry", "packages", "configurations")
"""What `Trainer` has no default of."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REFUSED = re.compile(r"[^\w\-. /]")
"""Characters that MLflow does not take in the name of a metric on every system (a colon not on Windows)."""
LONGEST_NAME = 250 - len("validation/")
"""Characters of a metric's name that leave room for the prefix under which a search finds it."""


TRAINERS = Plugins("trainer", GROUP, SHIPPED)


@functools.cache
def trainer(name: str, where: str = "") -> Trainer:
    """The trainer of this name, whose answers are checked.

    Args:
        name: as a study gives it.
        where: for messages.

    Raises:
        ConfigError: there is none, there are two, it cannot be imported, or it lacks what the interface requires.
    """
    found: Any = TRAINERS.load(name, where)
    _check(found, name, f"{where}: " if where else "")
    return _Checked(found)


def others_keys(own: Trainer) -> dict[str, str]:
    """Study keys of the shipped trainers that are not this one's → whose they are."""
    shipped = [trainer(name) for name in SHIPPED if name != own.name]
    return {key: other.name for other in shipped for key in other.study_keys if key not in own.study_keys}


def conf_folders() -> tuple[Path, ...]:
    """Folders of config groups and studies that come with this program's trainers."""
    return tuple(folder(package) / sub for package, sub in SHIPPED_CONF.values())


def _check(found: Any, name: str, at: str) -> None:
    """Refuse an object that is no trainer."""
    kind = found.__name__ if isinstance(found, type) else type(found).__name__
    who = f"{at}trainer '{name}': {kind}"
    if isinstance(found, type):
        raise ConfigError(f"{who} is a class; the entry point names an object, such as one made by {kind}()")
    for attribute in (name for name in dir(Trainer) if not name.startswith("_")):
        if not hasattr(found, attribute):
            raise ConfigError(
                f"{who} lacks '{attribute}'; study.trainers.Trainer, to inherit from, has what is optional"
            )
    for attribute in REQUIRED:
        own = getattr(type(found), attribute, None)
        if getattr(found, attribute, None) is None or own is getattr(Trainer, attribute, MISSING):
            raise ConfigError(f"{who} lacks '{attribute}', which study.trainers.Trainer requires")
    if found.name != name:
        raise ConfigError(f"{who} calls itself '{found.name}'")
    _check_attributes(found, who)


def _check_attributes(found: Any, who: str) -> None:
    if not re.fullmatch(r"[\w.]+:\w+", str(found.entry)):
        raise ConfigError(f"{who}: entry is {found.entry!r}; expected module:function")
    for attribute in ("packages", "study_keys", "condition_keys", "groups"):
        value = getattr(found, attribute)
        if not _is_sequence(value) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{who}: {attribute} is {_short(value)}; expected a tuple of names")
    if found.keys is not None and not isinstance(found.keys, Mapping):
        raise ConfigError(f"{who}: keys is {_short(found.keys)}; expected a mapping of sections to classes, or None")
    if found.extra and found.extra not in EXTRAS:
        raise ConfigError(unknown("extra", str(found.extra), EXTRAS, f"{who}: extra"))


MISSING = object()


class _Checked:
    """A trainer whose methods' faults are one line that names the method."""

    def __init__(self, found: Trainer) -> None:
        self._found = found
        self._who = f"trainer '{found.name}'"

    def __getattr__(self, name: str) -> Any:
        own = getattr(self._found, name)
        inherited = getattr(own, "__func__", MISSING) is getattr(Trainer, name, None)
        # A large plan asks some hundred thousand times; what a trainer inherits from us needs no check.
        self.__dict__[name] = (
            functools.partial(_ask, self._who, name, own) if name in _ANSWERS and not inherited else own
        )
        return self.__dict__[name]

    def configurations(self, request: Request) -> Configurations:
        own = _ask(self._who, "configurations", self._found.configurations, request)
        for attribute in ("metrics", "absent", "check_key", "members", "stages"):
            if not hasattr(own, attribute):
                raise ConfigError(f"{self._who}: configurations() returned {own!r}, which lacks '{attribute}'")
        return _CheckedConfigurations(self._who, own)


class _CheckedConfigurations(Configurations):
    """Configurations whose stages and metrics are checked."""

    def __init__(self, who: str, own: Configurations) -> None:
        self._who, self._own = who, own
        self._fine: dict[tuple[object, ...], list[tuple[Metric, ...]]] = {}
        """What is checked of a cell's stages, once for all cells that have the same."""

    @property
    def metrics(self) -> Sequence[Metric]:
        found: tuple[Metric, ...] = _ask(self._who, "metrics", lambda: tuple(self._own.metrics))
        _check_metrics(self._who, "metrics", found)
        known = {metric.name: metric for metric in found}
        if twice := next((metric for metric in found if metric != known[metric.name]), None):
            raise ConfigError(
                f"{self._who}: metric '{twice.name}' is declared twice, of stage '{twice.stage}' and of "
                f"'{known[twice.name].stage}', and not alike"
            )
        return found

    @property
    def absent(self) -> Mapping[str, str]:
        found: Mapping[str, str] = _ask(self._who, "absent", lambda: self._own.absent)
        return found

    @property
    def code(self) -> Code | None:
        found: Code | None = _ask(self._who, "code", lambda: getattr(self._own, "code", None))
        if found is not None and not isinstance(found, Code):
            raise ConfigError(f"{self._who}: code is {_short(found)}; expected a study.trainers.Code, or None")
        return found

    def check_key(self, key: str, where: str) -> None:
        _ask(self._who, "check_key", self._own.check_key, key, where)

    def close(self) -> None:
        # A trainer need not inherit from the protocol.
        _ask(self._who, "close", getattr(self._own, "close", lambda: None))

    def members(self, pattern: str, where: str) -> Sequence[str]:
        found: Sequence[str] = _ask(self._who, "members", self._own.members, pattern, where)
        return found

    def stages(self, choices: Choices, values: Values) -> Sequence[Stage]:
        found: Sequence[Stage] = _ask(self._who, "stages", self._own.stages, choices, values)
        if not _is_sequence(found) or not all(isinstance(item, Stage) for item in found):
            raise ConfigError(f"{self._who}: stages() returned {_short(found)}; expected study.trainers.Stage objects")
        shape = tuple(
            (stage.name, stage.needs, stage.seeded, id(stage.metrics), type(stage.runtime)) for stage in found
        )
        if shape in self._fine:
            return found
        for stage in found:
            _check_stage(self._who, stage)
        check_graph(self._who, found)
        if not any(stage.seeded for stage in found):
            raise ConfigError(
                f"{self._who}: stages() returned no stage that depends on the seed; a run begins with one"
            )
        if all(isinstance(stage.metrics, tuple) for stage in found):
            # The metrics stay alive, so that no others have their identities.
            self._fine[shape] = [stage.metrics for stage in found]
        return found


def _check_stage(who: str, stage: Stage) -> None:
    if not _NAME.fullmatch(str(stage.name)):
        raise ConfigError(f"{who}: a stage is called {stage.name!r}; letters, digits, '_', '-' and '.' only")
    if stage.name in RESERVED_STAGES:
        kept = RESERVED_STAGES[stage.name]
        raise ConfigError(f"{who}: a stage is called '{stage.name}'; that name is kept for {kept}")
    at = f"stage '{stage.name}'"
    if isinstance(stage.needs, str):
        raise ConfigError(f"{who}: {at}: needs is {stage.needs!r}; expected a tuple of names")
    if not isinstance(stage.runtime, RuntimeConfig):
        raise ConfigError(f"{who}: {at}: runtime is {_short(stage.runtime)}; expected a RuntimeConfig")
    _check_metrics(who, at, stage.metrics)
    for metric in stage.metrics:
        if metric.stage != stage.name:
            raise ConfigError(f"{who}: {at} yields '{metric.name}', which is declared as one of '{metric.stage}'")


def check_graph(who: str, stages: Sequence[Stage]) -> None:
    """Raise ConfigError unless the stages' needs are a graph without a circle."""
    known = {stage.name: stage for stage in stages}
    if len(known) < len(stages):
        twice = next(stage.name for stage in stages if [other.name for other in stages].count(stage.name) > 1)
        raise ConfigError(f"{who}: two stages are called '{twice}'")
    for stage in stages:
        for need in stage.needs:
            if need == stage.name:
                raise ConfigError(f"{who}: stage '{need}' needs itself")
            if need not in known:
                raise ConfigError(unknown("stage", need, known, f"{who}: stage '{stage.name}' needs"))
            if known[need].seeded and not stage.seeded:
                raise ConfigError(f"{who}: stage '{stage.name}' is not seeded, but needs '{need}', which is")
    left = dict(known)
    while ready := [name for name, stage in left.items() if not any(need in left for need in stage.needs)]:
        left = {name: stage for name, stage in left.items() if name not in ready}
    if left:
        raise ConfigError(f"{who}: stages {', '.join(left)} need each other in a circle")


def _ask(who: str, name: str, method: Callable[..., Any], *arguments: object) -> Any:
    """What a trainer's method answers; anything but a user's error is a fault of the trainer."""
    try:
        answer = method(*arguments)
    except AblateError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{who}: {name}() failed: {reason}") from error
    accepts, expected = _ANSWERS.get(name, _ANYTHING)
    if not accepts(answer):
        raise ConfigError(f"{who}: {name}() returned {_short(answer)}; expected {expected}")
    return answer


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


_ANSWERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "load": (lambda value: value is not None, "a configuration"),
    "bind": (lambda value: value is not None, "a configuration"),
    "changed": (lambda value: value is not None, "a configuration"),
    "unread": (lambda value: isinstance(value, Mapping), "a mapping of keys"),
    "parameters": (lambda value: isinstance(value, Mapping), "a mapping of keys to types"),
    "held_out": (lambda value: value is None or isinstance(value, Stage), "a Stage, or None"),
    "work": (_is_amount, "a number above 0"),
    "alike": (lambda value: isinstance(value, tuple) and len(value) == 2, "a pair of JSON values"),
    "progress": (lambda value: value is None or isinstance(value, Progress), "Progress, or None"),
    "after_out_of_memory": (lambda value: isinstance(value, bool), "True or False"),
    "meant_for_gpus": (lambda value: isinstance(value, bool), "True or False"),
    "operations": (lambda value: value == 0 or _is_amount(value), "a number from 0 on"),
    "precision": (lambda value: value in ("fp32", "bf16"), "fp32 or bf16"),
    "started": (lambda value: value is None or isinstance(value, Started), "a study.starts.Started, or None"),
    "resumption": (lambda value: isinstance(value, Resumption), "a study.starts.Resumption"),
    "partial": (lambda value: isinstance(value, bool), "True or False"),
    "inputs": (lambda value: isinstance(value, Mapping), "a mapping of names to texts"),
    "extras": (lambda value: _is_sequence(value) and all(name in EXTRAS for name in value), f"of {', '.join(EXTRAS)}"),
    "archives": (_is_sequence, "a sequence of paths"),
    "grace": (lambda value: value == 0 or _is_amount(value), "seconds from 0 on"),
    "check_watched": (lambda value: True, ""),
    "check_value": (lambda value: True, ""),
    "check_cluster": (lambda value: True, ""),
    "check_start": (lambda value: True, ""),
    "check_stage": (lambda value: True, ""),
    "members": (_is_sequence, "a sequence of patterns"),
    "absent": (lambda value: isinstance(value, Mapping), "a mapping of names to places"),
}
"""Method → what its answer must be, and how that is said."""
_ANYTHING = (lambda _: True, "")


def _check_metrics(who: str, where: str, metrics: Iterable[Metric]) -> None:
    for metric in metrics:
        if not isinstance(metric, Metric) or not isinstance(metric.name, str):
            raise ConfigError(f"{who}: {where}: {_short(metric)} is no study.trainers.Metric with a name")
        if metric not in _FINE:
            _check_metric(f"{who}: metric '{metric.name}'", metric)
            _FINE.add(metric)


_FINE: set[Metric] = set()
"""Metrics that were checked."""


def accepted_name(name: str) -> str:
    """The nearest name that MLflow takes for a metric on every system: the name itself where it is taken."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    mended = [
        re.sub("_+", "_", _REFUSED.sub("_", part)).strip("_ ") or "other" if _REFUSED.search(part) else part
        for part in parts
    ]
    return "/".join(mended) or "other"


def _check_metric(at: str, metric: Metric) -> None:
    name = metric.name
    if _REFUSED.search(name):
        bad = "".join(sorted(set(_REFUSED.findall(name))))
        raise ConfigError(f"{at}: MLflow takes no '{bad}' in a name; call it '{accepted_name(name)}'")
    if accepted_name(name) != name or "/" not in name:
        raise ConfigError(f"{at}: expected STAGE/NAME, with something between the slashes")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"{at}: {len(name)} characters; at most {LONGEST_NAME}")
    if metric.better not in ("", "higher", "lower"):
        raise ConfigError(f"{at}: better is {metric.better!r}; expected 'higher', 'lower' or ''")
    if metric.low is not None and metric.high is not None and metric.low > metric.high:
        raise ConfigError(f"{at}: its bounds are {metric.low} and {metric.high}")
