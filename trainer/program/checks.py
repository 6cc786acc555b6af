"""What is wrong with the stages of a study as a whole, found before anything is spent."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings
from ablative.study.syntax.factors import brief
from ablative.trainer.program.config import dotted
from ablative.trainer.program.definition import Described, StageDefinition
from ablative.trainer.program.interpreter import PYTHONS
from ablative.trainer.program.parts import Part, output_words
from ablative.trainer.program.words import FIXED, RESUMED, check_placeholders, placeholders, reads_all


def check_parts(
    parts: Mapping[str, Part], found: Mapping[str, Described], partial: bool, seeds: Sequence[int], where: str
) -> None:
    """Raise ConfigError for a command that could not work, or whose configuration would not be whole.

    Args:
        parts: of the study, by name.
        found: what each part's configuration comes from.
        partial: the study accepts a configuration of which only the cells' keys are known.
        seeds: of the study.
        where: for messages.
    """
    for part in parts.values():
        at = f"{where}: stages.{part.definition.name}"
        _check_words(part, parts, found[part.name], at)
        _check_seed(part, parts, seeds, at)
        if not found[part.name].kind and not partial and reads_configuration(part):
            raise ConfigError(
                f"{at}: its configuration is not known, so that an edited default would not be noticed; give config: "
                "{argparse: true}, {hydra: true}, {file: …} or the values, or partial: true for the cells' keys alone"
            )
    _check_read(parts, found, where)


def check_scripts(parts: Mapping[str, Part], code: Path, near: Path, where: str) -> None:
    """Raise ConfigError for a command whose folder, program or script is not there.

    Args:
        parts: of the study.
        code: folder where commands start.
        near: folder of the study's file.
        where: for messages.
    """
    for part in parts.values():
        own = part.definition
        if "{" in own.cwd:
            continue
        at = f"{where}: stages.{own.name}"
        _check_folder(code, own.cwd, at)
        _check_program(own, code, at)
        if own.prefix or len(own.command) < 2 or own.command[0] not in PYTHONS:
            continue
        script = own.command[1]
        if not script.endswith(".py") or "{" in script or (code / own.cwd / script).exists():
            continue
        hint = "; it is in the folder of the study file: code: ." if (near / script).exists() else ""
        scripts = sorted(path.name for path in (code / own.cwd).glob("*.py"))
        message = unknown("script", script, scripts, f"{at}.command")
        raise ConfigError(f"{message} in {code / own.cwd}{hint}")


def _check_folder(code: Path, cwd: str, at: str) -> None:
    folder = Path(os.path.normpath(code / cwd))
    if not folder.is_relative_to(code):
        raise ConfigError(f"{at}.cwd: {folder} is outside of the code, {code}, of which jobs run a copy")
    if not folder.is_dir():
        folders = sorted(str(path.relative_to(code)) for path in code.glob("*/"))
        raise ConfigError(unknown("folder", cwd, folders, f"{at}.cwd") + f" in {code}")


def _check_program(own: StageDefinition, code: Path, at: str) -> None:
    """Refuse a first word that is no program here; nodes alone may have one that is named by its whole path."""
    for place, words in (("prefix", own.prefix), ("command", own.command)):
        name = words[0] if words else ""
        if not name or name in PYTHONS or "{" in name or os.path.isabs(name):
            continue
        if os.sep in name:
            path = code / own.cwd / name
            if not path.is_file():
                raise ConfigError(f"{at}.{place}: no program {path}")
            if not os.access(path, os.X_OK):
                raise ConfigError(f"{at}.{place}: {path} is not executable; chmod +x {name}, or name what runs it")
        elif "PATH" not in own.env and shutil.which(name) is None:
            near = unknown("program", name, [*PYTHONS[:2], "bash", "torchrun", "srun", "conda", "apptainer"])
            raise ConfigError(
                f"{at}.{place}: {near.split(' (allowed')[0]}: it is not in PATH; one that only nodes have is named by "
                "its whole path"
            )
        if words is own.prefix:
            return


def _check_words(part: Part, parts: Mapping[str, Part], found: Described, at: str) -> None:
    own = part.definition
    if found.kind == "values":
        check_known(part, parts, dotted(found.values), at)
        _check_given_once(own, dotted(found.values), at)
    if own.command and "out" not in placeholders(part.texts) and (what := _of_folder(part, parts)):
        raise ConfigError(
            f"{at}.command: no {{out}}, the folder that {what}; hand it over (--out {{out}}; "
            "or env: {OUT: '{out}'})"
        )


def _check_given_once(own: StageDefinition, values: Settings, at: str) -> None:
    """Refuse a word that sets a key which `{args}` hands over as well: the run may have another value than its id."""
    named = placeholders(own.command)
    if not any(name.partition(":")[0] == "args" for name in named):
        return
    keys = [key for key in values if not own.reads or any(fnmatchcase(key, pattern) for pattern in own.reads)]
    given = {own.rename.get(key, key).lstrip("-"): key for key in keys if key not in named}
    for word in own.command:
        option, equals, _ = word.partition("=")
        key = given.get(option.lstrip("-+")) if equals or word.startswith("-") else None
        if key is not None:
            raise ConfigError(
                f"{at}.command: {word} sets what {{args}} hands over as config.{key}, {brief(values[key])}; "
                "leave one out"
            )


def _of_folder(part: Part, parts: Mapping[str, Part]) -> str:
    """What the study expects in a stage's output folder; empty: nothing, so that it may do without."""
    own = part.definition
    if own.outputs:
        return f"has outputs ({', '.join(own.outputs)})"
    if own.resume.file:
        return f"has resume.file ({own.resume.file})"
    if metric := next((metric for metric in own.metrics if metric.file), None):
        return f"has the file of metrics.{metric.name} ({metric.file})"
    for other in parts.values():
        words = output_words(other, parts)
        if named := next((name for name in placeholders(other.texts) if words.get(name) == part.name), None):
            return f"stage '{other.definition.name}' names ({{{named}}})"
    return ""


def check_known(part: Part, parts: Mapping[str, Part], values: Settings, at: str) -> None:
    """Raise ConfigError for what a stage's definition names and its configuration lacks.

    Args:
        part: the stage.
        parts: of the study, by name.
        values: dotted key → value, of the stage's configuration.
        at: where the stage is, for messages.
    """
    stages = [name.removesuffix(".out") for name in output_words(part, parts)]
    for place, texts in part.places.items():
        more = RESUMED if place == "resume.args" else ()
        check_placeholders(texts, [*more, *values, *part.each], stages, f"{at}.{place}")
    for key in part.definition.on_oom:
        if key not in values:
            raise ConfigError(unknown("key", key, values, f"{at}.on_oom"))
        if isinstance(values[key], bool) or not isinstance(values[key], int | float):
            raise ConfigError(f"{at}.on_oom.{key}: its value is {brief(values[key])}, no number to be multiplied")


def _check_seed(part: Part, parts: Mapping[str, Part], seeds: Sequence[int], at: str) -> None:
    own = part.definition
    if len(seeds) < 2 or not own.seeded or not own.command or "seed" in placeholders(part.texts):
        return
    if not any(parts[need].definition.seeded for need in part.needs):
        raise ConfigError(
            f"{at}.command: no {{seed}}, but seeds: {list(seeds)}; all of them would be the same run; hand it the seed "
            "(--seed {seed}), or say seeded: false"
        )


def reads_configuration(part: Part) -> bool:
    """Whether the program is given any keys."""
    own, named = part.definition, part.placeholders
    fixed = {*FIXED, *RESUMED, *part.each}
    return bool(own.function) or reads_all(named) or any(n not in fixed and not n.endswith(".out") for n in named)


def _check_read(parts: Mapping[str, Part], found: Mapping[str, Described], where: str) -> None:
    """Refuse values of the study that no stage reads: they could not matter."""
    values: dict[str, set[str]] = {}
    for name, part in parts.items():
        named = part.placeholders
        for key in dotted(found[name].values):
            reads = bool(part.definition.function) or reads_all(named) or key in named
            values.setdefault(key, set()).update([name] if reads else [])
    for key, readers in values.items():
        if not readers:
            raise ConfigError(
                f"{where}: config.{key}: no word of a command reads it; add {{args}} or {{{key}}}, or leave it out"
            )
    for part in parts.values():
        own = found[part.name]
        for pattern in part.definition.reads if own.kind == "values" else ():
            if not re.search(r"[*?\[]", pattern) and pattern not in dotted(own.values):
                at = f"{where}: stages.{part.definition.name}.reads"
                raise ConfigError(unknown("key", pattern, dotted(own.values), at))
