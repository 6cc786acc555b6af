"""What the shell completes: commands, studies, tables, claims, levels, keys, topics.

Study files are read as text, without Hydra and without a plan; whatever is wrong with them is passed over
here, and said by the commands.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import click
from click.shell_completion import BashComplete, CompletionItem, split_arg_string

from ablative.study import trainer_names
from ablative.study.core import registry
from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.core.files import Content
from ablative.study.installed_trainers import conf_folders
from ablative.study.spec.compose import Composer
from ablative.study.syntax.factors import whole_factors
from ablative.study.syntax.yaml_text import content

OUTPUTS = ("tables", "effects", "claims")
"""Keys of a study whose entries commands take by name."""


def suggestions(what: str, context: click.Context, incomplete: str) -> list[str]:
    """The words of one kind that begin as `incomplete` does; none where a study cannot be read."""
    try:
        return [word for word in KINDS[what](context, incomplete) if word.startswith(incomplete)]
    except (AblateError, OSError):
        return []


def _studies(context: click.Context, incomplete: str) -> Iterator[str]:
    yield from _composer(context).options("study")
    for path in sorted(glob.glob(f"{glob.escape(incomplete)}*")):
        if os.path.isdir(path):
            yield f"{path}/"
        elif path.endswith(".yaml"):
            yield path


def _composer(context: click.Context) -> Composer:
    folder = context.params.get("config_dir") or os.environ.get("ABLATE_CONFIG_DIR")
    return Composer(folder if folder and os.path.isdir(folder) else None, conf_folders())


def _content(context: click.Context) -> Content:
    """The keys of the study that the command line names, with those of the studies that it starts from."""
    # Before the value of an option is there, Click has not given the arguments their names.
    name = str(context.params.get("study_name") or next(iter(context.args), ""))
    found: Content = {}
    for path in reversed(_composer(context).files(name)):
        own = content(path)
        for key, value in own.items() if isinstance(own, Mapping) else ():
            before = found.get(str(key))
            both = isinstance(before, Mapping) and isinstance(value, Mapping)
            found[str(key)] = {**before, **value} if both else value  # type: ignore[dict-item]
    return found


def _factors(study: Content) -> Mapping[str, Sequence[str]]:
    try:
        whole = whole_factors(study.get("factors") or {}, "study")
    except ConfigError:
        return {}
    present = {factor: levels for factor, levels in whole.items() if levels is not None}
    return {factor: [level for level, own in levels.items() if own is not None] for factor, levels in present.items()}


def _outputs(context: click.Context, incomplete: str) -> Iterator[str]:
    study = _content(context)
    for key in OUTPUTS:
        own = study.get(key)
        yield from (str(name) for name, value in own.items() if value is not None) if isinstance(own, Mapping) else ()


def _conditions(context: click.Context, incomplete: str) -> Iterator[str]:
    yield from (f"{factor}={level}" for factor, levels in _factors(_content(context)).items() for level in levels)


def _cells(context: click.Context, incomplete: str) -> Iterator[str]:
    """Levels, one factor after the other: `scale=small,method=…`."""
    before, comma, _ = incomplete.rpartition(",")
    named = {part.partition("=")[0] for part in before.split(",")}
    for factor, levels in _factors(_content(context)).items():
        if factor not in named:
            yield from (f"{before}{comma}{factor}={level}" for level in levels)


def _words(context: click.Context, incomplete: str) -> Iterator[str]:
    """Overrides: options of config groups once `GROUP=` is typed, else keys."""
    from ablative.study.discovery.catalogue import catalogue

    head, sign, _ = incomplete.partition("=")
    composer = _composer(context)
    groups = [group for group in composer.groups() if group != "study"]
    if sign:
        choices = next((key.choices for key in catalogue() if key.name == head), ())
        options = composer.options(head) if head in groups else choices
        yield from (f"{head}={option}" for option in options if option)
        return
    yield from (f"{group}=" for group in groups)
    yield from dict.fromkeys(f"{key.name}=" for key in catalogue() if "NAME" not in key.name and "[]" not in key.name)


def _cell_or_words(context: click.Context, incomplete: str) -> Iterator[str]:
    yield from _cells(context, incomplete)
    yield from _words(context, incomplete)


def _keys(context: click.Context, incomplete: str) -> Iterable[str]:
    from ablative.study.discovery.catalogue import catalogue

    return [key.name for key in catalogue()]


def _topics(context: click.Context, incomplete: str) -> Iterable[str]:
    from ablative.study.discovery.topics import topics

    return sorted({*topics(), *registry.COMMANDS, *trainer_names.COMMANDS})


def _lists(context: click.Context, incomplete: str) -> Iterator[str]:
    composer = _composer(context)
    group, dot, _ = incomplete.partition(".")
    if dot:
        yield from (f"{group}.{option}" for option in composer.options(group))
        return
    yield from ("kinds", "executors", "trainers", *composer.groups())


def _tasks(context: click.Context, incomplete: str) -> Iterator[str]:
    from ablative.study.home.paths import home

    yield from (path.name for path in sorted(home().runs.glob(f"{glob.escape(incomplete)}*")) if path.is_dir())


class Bash(BashComplete):
    """Bash splits words at `=` and `:`, which overrides have."""

    name = "bash"
    source_template = """\
%(complete_func)s() {
    local line response
    COMPREPLY=()
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" %(complete_var)s=bash_complete \\
        "$1" 2>/dev/null) || return 0
    while IFS= read -r line; do
        [ -n "$line" ] && COMPREPLY+=("$line")
    done <<< "$response"
    case "${COMPREPLY[0]}" in
        *=|*/) compopt -o nospace ;;
    esac
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def source(self) -> str:
        """Its part of the start file; Click's own looks for the version of Bash by starting one."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is typed, and that one, joined again where Bash has split them."""
        cut = int(os.environ["COMP_CWORD"])
        words = split_arg_string(os.environ["COMP_WORDS"])
        words = [*words[:cut], words[cut] if cut < len(words) else ""]
        joined: list[str] = []
        for word in words:
            if len(joined) > 1 and (word in BREAKS or joined[-1].endswith(BREAKS)):
                joined[-1] += word
            else:
                joined.append(word)
        return joined[1:-1], joined[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """What takes the place of the part that Bash sees."""
        typed = self.get_completion_args()[1]
        seen = max(typed.rfind(sign) for sign in BREAKS) + 1
        return str(item.value)[seen:]


BREAKS = ("=", ":")
"""Signs at which Bash splits words, of those that words of this program have."""


KINDS: Mapping[str, Callable[[click.Context, str], Iterable[str]]] = {
    "studies": _studies,
    "outputs": _outputs,
    "conditions": _conditions,
    "cells": _cells,
    "cell or words": _cell_or_words,
    "words": _words,
    "keys": _keys,
    "topics": _topics,
    "lists": _lists,
    "tasks": _tasks,
}
"""What is completed → (context, beginning) → the words."""
