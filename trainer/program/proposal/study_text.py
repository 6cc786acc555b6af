"""The text of a proposed study file, with comments on what was found and what is a guess."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from ablative.trainer.program.proposal.found_metrics import Proposed
from ablative.trainer.program.proposal.found_program import GLOBALS, WORDS, Found
from ablative.trainer.program.proposal.roles import PLAUSIBLE, Factor, Roles
from ablative.trainer.program.proposal.short_run import Ran
from ablative.trainer.program.words import Plain

_CHECKPOINT = re.compile(r"(.*(ckpt|checkpoint|last|model|weights|state).*)|.*\.(pt|pth|ckpt|pkl|safetensors)")
ACTIVE_FACTORS = 2
"""Factors that are written; further ones are comments."""
SHOWN_KEYS = 40


def command(found: Found, own: Roles) -> str:
    """The command as the study has it; empty for a function."""
    if found.kind == "function":
        return ""
    words = ["python", found.target, *map(shlex.quote, found.words)]
    if found.kind == "hydra":
        words += ["{args:hydra}", *([f"{own.seed}={{seed}}"] if own.seed else []), "hydra.run.dir={out}"]
    else:
        args = "{args}" if found.style == "equals" else f"{{args:{found.style}}}"
        words += [args, *_flag(found, own.seed, "{seed}"), *_flag(found, own.out, "{out}")]
    return " ".join(words)


def _flag(found: Found, key: str, value: str) -> list[str]:
    """Words that hand a value to a program."""
    if not key:
        return []
    if found.kind in (GLOBALS, WORDS):
        text = f'"{value}"' if key in found.quoted else value
        word = {"space": f"--{key} {text}", "hydra": f"{key}={text}"}.get(found.style, f"--{key}={text}")
        return [f"'{word}'" if text != value else word]
    flags = found.options[key].flags
    long = [flag for flag in flags if flag.startswith("--")] or list(flags)
    return [f"{long[0]} {value}"] if long else [value]


def study_text(name: str, found: Found, own: Roles, metrics: Sequence[Proposed], ran: Ran | None) -> str:
    """The study file."""
    lines = [
        f"# Proposed by `ablate init {found.target}`: look through it; then `ablate plan`, `ablate try`, `ablate run`.",
        f"name: {name}",
        f"title: {name.replace('_', ' ').capitalize()}",
        "code: .  # folder where commands start; its git repository is frozen for jobs",
        *_config(found, own),
        "stages:",
        "  train:",
        *(f"    {line}" for line in _stage(found, own, metrics, ran)),
        *_seeds(found, own),
        *_factors(found, own),
        *_tables(own, metrics),
    ]
    return "\n".join(lines) + "\n"


def given(found: Found, own: Roles) -> dict[str, Plain]:
    """Values that the study itself has, so that `{args}` hands all of them to the program."""
    known = {GLOBALS: set(found.values), WORDS: {*found.given, own.steps, *(factor.key for factor in own.factors)}}
    keys = known.get(found.kind, set()) - {own.seed, own.out, own.resume}
    return {key: value for key, value in found.values.items() if key in keys}


def _config(found: Found, own: Roles) -> Iterator[str]:
    if found.kind in ("argparse", "hydra"):
        yield f"config: {{{found.kind}: true}}  # the program is asked for its whole configuration:"
        shown = [f"{key}={_short(value)}" for key, value in list(found.values.items())[:SHOWN_KEYS]]
        yield from (f"#   {line}" for line in _wrapped(shown))
    elif found.kind == "function":
        yield "config:  # what the function is called with; null: no default was found in its module, so write one"
        yield from (f"  {key}: {_yaml(value)}" for key, value in found.values.items())
    elif found.kind == WORDS:
        yield from _words_config(found, own)
    else:
        yield "config:  # settings of the script, with the values that it has them at"
        yield from (f"  {key}: {_yaml(value)}" for key, value in given(found, own).items())
        left = [(key, text) for key, text in found.computed.items() if key not in (own.seed, own.out, own.resume)]
        yield from (f"  # {key}: the script computes it, {_short(text)}; write a value" for key, text in left)
    if own.unhashed:
        yield f"unhashed: [{', '.join(own.unhashed)}]  # they change no result, so they are no part of ids"


def _words_config(found: Found, own: Roles) -> Iterator[str]:
    yield "# The script reads its command line itself: write every setting that matters, since ids see no other."
    if not (known := given(found, own)):
        yield "partial: true  # or config: {key: value}, of which {args} makes words of the command"
        return
    yield "config:"
    yield from (f"  {key}: {_yaml(value)}" for key, value in known.items())
    left = [key for key in found.values if key not in known and key not in (own.seed, own.out, own.resume)]
    yield from (f"  # {key}: {_yaml(found.values[key])}" for key in left)


def _stage(found: Found, own: Roles, metrics: Sequence[Proposed], ran: Ran | None) -> Iterator[str]:
    words = command(found, own)
    yield f"command: {_yaml(words)}" if words else f'function: "{found.target}"'
    if words and "{out}" not in words:
        yield "# No option for its output folder was found: it has to write to $OUT, or all runs write to one place."
        yield 'env: {OUT: "{out}"}'
    yield from _resume(found, own, ran)
    if own.steps and found.kind != "function":
        yield f'progress: {{steps: "{{{own.steps}}}"}}'
    files = _checkpoints(ran)
    if files:
        mark = "" if ran is not None and not ran.cut and ran.status == 0 else "# "
        yield f"{mark}outputs: [{', '.join(map(_yaml, files[:3]))}]  # without them a run has failed"
    if not metrics:
        yield "# No number was found in its output or files; for example:"
        yield "# metrics: {loss: {better: lower, stdout: 'step (?P<step>\\d+): loss (?P<value>\\S+)'}}"
        return
    yield "metrics:  # a run without one of them has failed; better: higher or lower"
    for one in metrics:
        source = {**({"better": one.better} if one.better else {}), **one.source}
        body = ", ".join(f"{key}: {_yaml(value)}" for key, value in source.items())
        yield f"  {_yaml(one.name)}: {{{body}}}  # {one.seen}"


def _resume(found: Found, own: Roles, ran: Ran | None) -> Iterator[str]:
    if found.kind == "function":
        yield "# A checkpoint in context.out makes a stopped run go on; `ablate try` measures whether exactly."
        return
    if not own.resume:
        return
    files = _checkpoints(ran)
    value, option = found.values[own.resume], found.options.get(own.resume)
    flag = next((flag for flag in option.flags if flag.startswith("--")), "") if option else ""
    flag = flag or ("" if found.kind == "hydra" else "--") + own.resume
    if isinstance(value, bool):
        words = f"{flag}=true" if found.kind == "hydra" else f"{flag}=True" if found.kind == GLOBALS else flag
    elif isinstance(value, str) and value in ("scratch", "none", "no"):
        words = f"{flag}=resume"
    else:
        words = f"{flag}={{out}}/{files[0] if files else 'last.pt'}"
    yield "# Added to the command where the file is there; `ablate try` measures whether a resumed run ends the same."
    mark = "" if files else "# "
    yield f"{mark}resume: {{file: {_yaml(files[0] if files else 'last.pt')}, args: {_yaml(words)}}}"


def _checkpoints(ran: Ran | None) -> list[str]:
    """Files of a short run by whose names they hold what a run has learned, those directly in the folder first."""
    if ran is None:
        return []
    names = [str(path.relative_to(ran.out)) for path in ran.out.rglob("*") if path.is_file()]
    found = [name for name in names if _CHECKPOINT.fullmatch(Path(name).name) and not Path(name).name.startswith(".")]
    return sorted(found, key=lambda name: (name.count("/"), name))


def _seeds(found: Found, own: Roles) -> Iterator[str]:
    if found.kind == "function" or own.seed:
        yield "seeds: [0, 1]"
    else:
        yield "seeds: [0]  # no option for the seed was found, so that a second one would be the same run"


def _factors(found: Found, own: Roles) -> Iterator[str]:
    if not own.factors:
        left = [key for key in found.values if key not in (own.seed, own.out, own.steps)] or list(found.values)
        key = min(left, key=lambda key: PLAUSIBLE.index(key) if key in PLAUSIBLE else len(PLAUSIBLE), default="key")
        yield "factors:  # no key has a usual value: write what is compared, with its values"
        yield f"  {_name(key)}: {{key: {key}, levels: [0, 1]}}"
        return
    yield "factors:  # proposed by the names of keys: write what is compared"
    for number, factor in enumerate(own.factors):
        yield f"{'  ' if number < ACTIVE_FACTORS else '  # '}{_factor(factor)}"
    first = own.factors[:ACTIVE_FACTORS]
    yield "baseline: {" + ", ".join(f"{_name(one.key)}: {_yaml(one.levels[0])}" for one in first) + "}"


def _factor(factor: Factor) -> str:
    return f"{_name(factor.key)}: {{key: {factor.key}, levels: [{', '.join(map(_yaml, factor.levels))}]}}"


def _name(key: str) -> str:
    """A factor's name: the last part of its key."""
    return re.sub(r"\W", "_", key.rpartition(".")[2])


def _tables(own: Roles, metrics: Sequence[Proposed]) -> Iterator[str]:
    rows = [_name(factor.key) for factor in own.factors[:ACTIVE_FACTORS]]
    if not metrics or not rows:
        metric = metrics[0].name if metrics else "loss"
        yield f"# tables: {{main: {{rows: [FACTOR], columns: [{{label: {metric}, metric: train/{metric}}}]}}}}"
        return
    shown = [one for one in metrics if one.better][:3] or metrics[:1]
    columns = ", ".join(
        f"{{label: {_yaml(one.name.replace('_', ' '))}, metric: {_yaml(f'train/{one.name}')}}}" for one in shown
    )
    yield "tables:"
    yield f"  main: {{rows: [{', '.join(rows)}], columns: [{columns}]}}"


def _yaml(value: Plain) -> str:
    """A value as YAML writes it within braces on one line."""
    text: str = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()
    return text[1:-1]


def _short(value: Plain) -> str:
    text = str(value)
    return text if len(text) <= 30 else f"{text[:27]}..."


def _wrapped(items: Sequence[str], width: int = 110) -> Iterator[str]:
    line = ""
    for item in items:
        if line and len(line) + len(item) > width:
            yield line
            line = ""
        line += f"{', ' if line else ''}{item}"
    if line:
        yield line
