"""What is wrong with the stages of a study as a whole, found before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablative.study.core.errors import ConfigError, unknown
from ablative.trainer.program.config import dotted
from ablative.trainer.program.interpreter import PYTHONS
from ablative.trainer.program.parts import Part, output_words
from ablative.trainer.program.sources import Described
from ablative.trainer.program.words import FIXED, check_placeholders, placeholders, reads_all


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
        if not found[part.name].kind and not partial and _reads_configuration(part):
            raise ConfigError(
                f"{at}: its configuration is not known, so that an edited default would not be noticed; give config: "
                "{argparse: true}, {hydra: true}, {file: …} or the values, or partial: true for the cells' keys alone"
            )
    _check_read(parts, found, where)


def check_scripts(parts: Mapping[str, Part], code: Path, near: Path, where: str) -> None:
    """Raise ConfigError for a command whose script is not there.

    Args:
        parts: of the study.
        code: folder where commands start.
        near: folder of the study's file.
        where: for messages.
    """
    for part in parts.values():
        own = part.definition
        if own.prefix or len(own.command) < 2 or own.command[0] not in PYTHONS or "{" in own.cwd:
            continue
        script = own.command[1]
        if not script.endswith(".py") or "{" in script or (code / own.cwd / script).exists():
            continue
        hint = "; it is in the folder of the study file: code: ." if (near / script).exists() else ""
        scripts = sorted(path.name for path in (code / own.cwd).glob("*.py"))
        message = unknown("script", script, scripts, f"{where}: stages.{own.name}.command")
        raise ConfigError(f"{message} in {code / own.cwd}{hint}")


def _check_words(part: Part, parts: Mapping[str, Part], found: Described, at: str) -> None:
    own = part.definition
    keys = [*dotted(found.values), *part.each]
    stages = [name.removesuffix(".out") for name in output_words(part, parts)]
    if found.kind == "values":
        check_placeholders(part.texts, keys, stages, f"{at}.command")
    if own.command and "out" not in placeholders(part.texts):
        raise ConfigError(
            f"{at}.command: no {{out}}, so that all its tasks would write to one place; hand it the folder for what "
            "it writes (--out {out}; or env: {OUT: '{out}'})"
        )


def _check_seed(part: Part, parts: Mapping[str, Part], seeds: Sequence[int], at: str) -> None:
    own = part.definition
    if len(seeds) < 2 or not own.seeded or not own.command or "seed" in placeholders(part.texts):
        return
    if not any(parts[need].definition.seeded for need in part.needs):
        raise ConfigError(
            f"{at}.command: no {{seed}}, but seeds: {list(seeds)}; all of them would be the same run; hand it the seed "
            "(--seed {seed}), or say seeded: false"
        )


def _reads_configuration(part: Part) -> bool:
    """Whether the program is given any keys."""
    own, named = part.definition, part.placeholders
    fixed = {*FIXED, *part.each}
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
