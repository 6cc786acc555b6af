"""`python click_options.py ANSWER SCRIPT WORDS`: the options of a script written with click, before it does any work.

The script may be `-m MODULE`. The file ANSWER gets JSON: the options of the command that the words lead to; or the
names of a group's commands.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any

Found = Any
"""A command or an option of click, whose types are not known here."""


class Answered(SystemExit):
    """The options are known."""


def describe(command: Found, words: list[str]) -> dict[str, object]:
    """What is known of the command that the words lead to."""
    while hasattr(command, "commands"):
        name = next((word for word in words if word in command.commands), "")
        if not name:
            return {"commands": sorted(command.commands)}
        words = words[words.index(name) + 1 :]
        command = command.commands[name]
    return {"options": list(filter(None, map(option, command.params)))}


def option(found: Found) -> dict[str, object] | None:
    """An option that `--NAME=VALUE`, or as a flag `--NAME`, sets; None: it is none."""
    names = [name for name in found.opts if name.startswith("--")]
    if found.param_type_name != "option" or not names or found.multiple or found.nargs != 1 or found.count:
        return None
    default = found.default() if callable(found.default) else found.default
    flag = bool(found.is_flag)
    if flag and (default is True or isinstance(default, str)):
        return None  # it is on without a word, or sets a text
    known = isinstance(default, (bool, int, float, str))
    value = default is True if flag else default if known else None
    return {"name": max(names, key=len)[2:], "value": value}


def main() -> None:
    """Run the program up to its command."""
    answer, program, words = sys.argv[1], sys.argv[2], sys.argv[3:]
    module = ""
    if program == "-m":
        module, words = words[0], words[1:]
    import click

    def stop(command: Found, *args: object, **more: object) -> None:
        with open(answer, "w", encoding="utf-8") as file:
            json.dump(describe(command, words), file)
        raise Answered(0)

    for kind in click.Command.__mro__:
        if "main" in vars(kind):
            kind.main = stop  # type: ignore[attr-defined]
    sys.argv = [program, *words]
    sys.path[0] = os.getcwd() if module else os.path.dirname(os.path.abspath(program))
    if module:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
