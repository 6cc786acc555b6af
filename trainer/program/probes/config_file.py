"""A program's configuration from a file of its repository: YAML, JSON or TOML."""

from __future__ import annotations

import datetime
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import Settings
from ablative.study.syntax.yaml_text import read_text, shown
from ablative.trainer.program.probes.inside.plain_values import plain

FORMATS = (".yaml", ".yml", ".json", ".toml")


def file_config(path: Path, where: str) -> Settings:
    """The content of a file, as JSON values.

    Args:
        path: its name says how it is written.
        where: the study's key, for messages.

    Raises:
        ConfigError: it is missing, in another format, broken, or holds no keys.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{where}: {shown(path)}: expected a file in {', '.join(FORMATS)}")
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no file {shown(path)}") from None
    except OSError as error:
        raise ConfigError(f"{where}: {shown(path)} cannot be read: {error.strerror}") from None
    found = _parsed(path, text, where)
    if not isinstance(found, Mapping):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise ConfigError(f"{where}: {shown(path)}: expected keys and values, found {kind}")
    return {str(key): _json(value) for key, value in found.items()}


def _parsed(path: Path, text: str, where: str) -> object:
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where}: {shown(path)}:{error.lineno}: not JSON: {error.msg}") from None
    if path.suffix.lower() == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where}: {shown(path)}: not TOML: {error}") from None
    return _yaml(path, text, where)


def _yaml(path: Path, text: str, where: str) -> object:
    """The file as PyYAML reads it, as most programs do: `1e-3` is text there, and is handed on as it was written."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        reason = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise ConfigError(f"{where}: {shown(path)}{line}: not YAML: {reason}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {shown(path)}: not YAML: {' '.join(str(error).split())}") from None


def _json(value: object) -> object:
    """The value as JSON; dates, which YAML and TOML know, become ISO 8601."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    return plain(value)
