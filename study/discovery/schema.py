"""The JSON schema of study files, for editors: what it refuses, `ablate plan` refuses, too.

It is made of the classes that declare the keys. It accepts more than the plan does, since a file may start from another
study, and since values may be Hydra's `${…}`, which are known only when the file is composed.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass

from ablative.study.core.plugins import Plugins
from ablative.study.discovery.catalogue import trainers
from ablative.study.discovery.keys import docstrings, is_union
from ablative.study.spec.study_keys import StudyKeys

Schema = dict[str, object]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
"""Which version of JSON Schema it is: a name, which is not opened."""
INTERPOLATION = r"\$\{"
_NUMBER = rf"^\s*[-+]?([0-9][0-9_]*\.?|[0-9_]*\.[0-9_]+)[0-9_]*([eE][-+]?[0-9_]+)?\s*$|{INTERPOLATION}"
"""Numbers that YAML 1.1 reads as text (`5e-4`), and interpolations."""
NAMED = ("tables", "effects", "queries", "figures", "claims")
"""Keys whose entries have keys that are required, in a file that starts from no other."""


def study_schema() -> Schema:
    """The schema, with the keys of every trainer that is installed."""
    made = _Maker()
    properties: dict[str, Schema] = {"defaults": {"type": "array", "description": "Studies that this one starts from."}}
    properties |= made.properties(StudyKeys)
    for trainer in trainers():
        kind = (trainer.keys or {}).get("")
        own = made.properties(kind) if isinstance(kind, type) else {}
        for key in trainer.study_keys:
            if key not in StudyKeys.__dataclass_fields__:
                shown = own.get(key, {})
                properties[key] = {"anyOf": [properties[key], shown]} if key in properties else shown
    alone = {"required": ["name"], "properties": {key: {"additionalProperties": _needed(key)} for key in NAMED}}
    return {
        "$schema": DRAFT,
        "title": "Study of ablate",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "if": {"not": {"required": ["defaults"]}},
        "then": alone,
        "$defs": made.definitions,
    }


def schema_text() -> str:
    """The schema as the content of a file."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def _needed(key: str) -> Schema:
    kind = typing.get_args(typing.get_type_hints(StudyKeys)[key])[1]
    return {"required": [spec.name for spec in fields(kind) if _required(spec)]}


def _required(spec: object) -> bool:
    return getattr(spec, "default", None) is MISSING and getattr(spec, "default_factory", None) is MISSING


@dataclass
class _Maker:
    """Makes the schemas of types; classes become definitions, which are referred to."""

    definitions: dict[str, Schema] = field(default_factory=dict)

    def properties(self, kind: type) -> dict[str, Schema]:
        """Key → schema, of the fields of a class."""
        hints, documents = typing.get_type_hints(kind, include_extras=True), docstrings(kind)
        found = {}
        for spec in fields(kind):
            written = spec.metadata.get("written") or hints[spec.name]
            own = self._of(written, spec.metadata)
            if meaning := documents.get(spec.name):
                own = {**own, "description": meaning}
            found[spec.name.rstrip("_")] = own
        return found

    def _of(self, kind: object, metadata: Mapping[str, object]) -> Schema:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        if isinstance(kind, type) and is_dataclass(kind):
            return {"$ref": f"#/$defs/{self._defined(kind)}"}
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if is_union(origin):
            return self._union(arguments, metadata)
        if origin is tuple:
            item = self._of(arguments[0], {})  # a configuration takes one value for a list of it
            return {"anyOf": [_or_reference({"type": "array", "items": item}), item]}
        if origin is list:
            return _or_reference({"type": "array", "items": self._of(arguments[0], metadata)})
        if origin is dict:
            return _or_reference({"type": "object", "additionalProperties": self._of(arguments[1], {})})
        return _scalar(kind, metadata)

    def _union(self, arguments: tuple[object, ...], metadata: Mapping[str, object]) -> Schema:
        choices = metadata.get("choices")
        if choices is not None and set(arguments) <= {str, int, float, bool}:
            return _scalar(str, metadata)
        return {"anyOf": [self._of(argument, metadata) for argument in arguments if argument is not type(None)]}

    def _defined(self, kind: type) -> str:
        name = kind.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # a class may contain itself
            self.definitions[name] = _or_reference(
                {"type": "object", "properties": self.properties(kind), "additionalProperties": False}
            )
        return name


def _or_reference(schema: Schema) -> Schema:
    """Null, too, which takes an entry of another study away, and an interpolation."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    pattern = {} if "string" in kinds else {"pattern": INTERPOLATION}
    return {**schema, "type": [*kinds, *(name for name in ("string", "null") if name not in kinds)], **pattern}


def _scalar(kind: object, metadata: Mapping[str, object]) -> Schema:
    choices = metadata.get("choices")
    if isinstance(choices, tuple | list | Plugins):
        return {"anyOf": [{"enum": [*choices, None]}, {"type": "string", "pattern": INTERPOLATION}]}
    if kind in (int, float):
        whole = {"type": ["integer", "string", "null"], "pattern": INTERPOLATION}
        number = {"type": ["number", "string", "null"], "pattern": _NUMBER}
        names = {"low": "minimum", "high": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
        bounds = {name: metadata[key] for key, name in names.items() if metadata.get(key) is not None}
        return {**(whole if kind is int else number), **bounds}
    if kind is bool:
        return _or_reference({"type": "boolean"})
    return _or_reference({"type": "string"}) if kind is str else {}
