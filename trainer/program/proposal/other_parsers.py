"""Scripts whose command line a library other than argparse parses: click can be asked for options, others cannot."""

from __future__ import annotations

import ast
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from ablative.study.core.errors import ConfigError
from ablative.trainer.program.probes.inside.command_line import PARSERS
from ablative.trainer.program.probes.process import ENTRY
from ablative.trainer.program.words import Plain

CLICK = "click"
SECONDS = 60
"""Within which a script comes to its command."""


def parser_of(source: str) -> str:
    """The library of this kind that a script imports, such as `fire`; empty: none."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[0] for name in names}
    return next((name for name in PARSERS if name in found), "")


def refuse(target: str, library: str) -> ConfigError:
    """The error for a script that cannot be asked."""
    return ConfigError(
        f"init: {target} parses its command line by {library}, which cannot be asked for its options; what every "
        f"run is given becomes keys: ablate init {target} -- --KEY=VALUE …"
    )


def click_options(folder: Path, program: Sequence[str], words: Sequence[str], python: str) -> dict[str, Plain]:
    """Option, without its dashes → default, of the command that a script would run, asked in its interpreter.

    Args:
        folder: where it is started.
        program: the script, or -m and the module.
        words: that every run is given.
        python: the interpreter.

    Raises:
        ConfigError: the script fails before that, or the words do not say which of its commands.
    """
    target = " ".join(program)
    at = f"init: {target}"
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch, "answer.json")
        command = [python, str(ENTRY.with_name("click_options.py")), str(answer), *program, *words]
        try:
            done = subprocess.run(
                command,
                cwd=folder.resolve(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{at} came to no command of click within {SECONDS} s") from None
        if not answer.exists():
            last = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise ConfigError(f"{at} ended before a command of click: {last[-1] if last else 'it printed nothing'}")
        found = json.loads(answer.read_text())
    if "commands" in found:
        raise ConfigError(f"{at} has commands; name one: ablate init {target} -- {' | '.join(found['commands'])}")
    return {own["name"]: own["value"] for own in found["options"]}


def with_words(options: dict[str, Plain], words: Sequence[str]) -> tuple[dict[str, Plain], tuple[str, ...]]:
    """The options with the values that a command line gives, and its other words.

    >>> with_words({"lr": 0.1, "fast": False}, ["train", "--fast", "--lr", "3", "-x"])
    ({'lr': 3, 'fast': True}, ('train', '-x'))
    """
    values, others, left = dict(options), [], list(words)
    while left:
        word = left.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or key not in options:
            others.append(word)
        elif equals or not isinstance(options[key], bool):
            values[key] = yaml.safe_load(text if equals or not left else left.pop(0))
        else:
            values[key] = True
    return values, tuple(others)
