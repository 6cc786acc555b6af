"""Content hashes of configurations: the ids of runs and evaluations.

An id is 12 hexadecimal digits of the SHA-256 of the canonical JSON of the whole resolved, typed
configuration, never of a difference to defaults: an edited default then gives another id instead of
silently serving an old result.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

ID_DIGITS = 12
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
NAMED, INLINE, HIDDEN = "named", "inline", "hidden"
"""How the keys of a dataclass's field appear among flattened ones: below its name, without it, not at all."""


def identity(config: Any) -> Any:
    """What of a configuration determines the result, as plain JSON values.

    Fields with ``identity=False`` are left out, and so are fields that were added later (with an
    ``identity_default``) where they hold that value.
    """
    if dataclasses.is_dataclass(config):
        result = {}
        for spec in dataclasses.fields(config):
            value = getattr(config, spec.name)
            if not spec.metadata.get("identity", True):
                continue
            default = spec.metadata.get("identity_default", dataclasses.MISSING)
            if default is not dataclasses.MISSING and value == default:
                continue
            result[spec.name] = identity(value)
        return result
    if isinstance(config, tuple | list):
        return [identity(item) for item in config]
    if isinstance(config, Mapping):
        return {str(key): identity(value) for key, value in config.items()}
    # Minus zero is the same number as zero, but not the same text.
    return config + 0.0 if isinstance(config, float) else config


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text on every machine."""
    return _ENCODER.encode(value)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def content(config: object) -> str:
    """`canonical(identity(config))`; the text of a section that many configurations share is made once."""
    kind: type = type(config)
    fields = _hashed_fields(kind)
    if fields is None:
        return canonical(identity(config))
    parts = []
    for name, head, default in fields:
        value = getattr(config, name)
        if default is dataclasses.MISSING or value != default:
            known = _texts.get(id(value))
            parts.append(head + (_text(value) if known is None else known[1]))
    return "{" + ",".join(parts) + "}"


@functools.cache
def _hashed_fields(cls: type) -> tuple[tuple[str, str, object], ...] | None:
    """Name, `"name":` and `identity_default` of each field that is hashed, in the order of keys; None: no dataclass."""
    if not dataclasses.is_dataclass(cls):
        return None
    specs = [spec for spec in dataclasses.fields(cls) if spec.metadata.get("identity", True)]
    return tuple(
        (spec.name, f"{json.dumps(spec.name)}:", spec.metadata.get("identity_default", dataclasses.MISSING))
        for spec in sorted(specs, key=lambda spec: spec.name)
    )


_texts: dict[int, tuple[object, str]] = {}
"""Identity of a section → the section, which so stays alive, and its text."""
_MOST_TEXTS = 4096


def _text(value: object) -> str:
    """The text of a field's value; that of a section is kept."""
    if isinstance(value, str):
        return canonical(value)
    text = canonical(identity(value))
    if isinstance(value, tuple) or dataclasses.is_dataclass(value):
        if len(_texts) >= _MOST_TEXTS:
            _texts.clear()
        _texts[id(value)] = value, text
    return text


def config_id(config: object) -> str:
    """Id of a configuration that holds the seed and the ids of what its task needs."""
    return digest(content(config))


def stage_id(trainer: str, stage: str, config: object, needs: Mapping[str, str], seed: int | None) -> str:
    """Id of a task whose configuration holds neither its seed nor what it needs.

    Args:
        trainer: its name.
        stage: its name.
        config: of the stage.
        needs: stage → id of the task that it needs.
        seed: of the run; None: the stage does not depend on it.
    """
    whole = {"trainer": trainer, "stage": stage, "needs": dict(needs), "seed": seed}
    return digest(canonical({**whole, "config": identity(config)}))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a configuration, in field order: ``{"model.width": 64, ...}``.

    Tuples of named configurations (an evaluation's data sets) are keyed by name.
    """
    if dataclasses.is_dataclass(config):
        items: Mapping[str, object] = _shown(config)
    elif isinstance(config, Mapping):
        items = config
    elif isinstance(config, tuple | list) and config and all(hasattr(item, "name") for item in config):
        items = {item.name: item for item in config}
    else:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in items.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _shown(config: Any) -> dict[str, object]:
    """Fields of a dataclass by the names under which their keys are flattened."""
    found: dict[str, object] = {}
    for spec in dataclasses.fields(config):
        value, flat = getattr(config, spec.name), spec.metadata.get("flat", NAMED)
        if flat == INLINE:
            found.update(value)
        elif flat == NAMED:
            found[spec.name] = value
    return found


def shown(config: object) -> object:
    """A configuration as people read it, nested: dictionaries, lists and plain values, without hidden fields."""
    if dataclasses.is_dataclass(config):
        return {key: shown(value) for key, value in _shown(config).items()}
    if isinstance(config, Mapping):
        return {str(key): shown(value) for key, value in config.items()}
    return [shown(item) for item in config] if isinstance(config, tuple | list) else config


def differences(left: Any, right: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two configurations differ: ``{key: (left, right)}``; absent is None."""
    a, b = flatten(left), flatten(right)
    keys = list(dict.fromkeys([*a, *b]))
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}
