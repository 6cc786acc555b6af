"""Whether the modules and functions that a study's stages name are there; none of them is imported."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.identity import canonical, digest
from ablative.trainer.program import probes
from ablative.trainer.program.definition import StageDefinition
from ablative.trainer.program.interpreter import PYTHONS
from ablative.trainer.program.probes.program import Invocation

_SCRIPT = Path(probes.__file__).parent / "inside" / "imports.py"
_SECONDS = 60.0


def check_targets(
    stages: Sequence[StageDefinition], invocation: Callable[[StageDefinition], Invocation], where: str
) -> None:
    """Raise ConfigError for the first module or function that the study's interpreter would not find.

    Args:
        stages: of the study.
        invocation: how a stage's program is started.
        where: for messages.
    """
    found: dict[tuple[Path, str], list[StageDefinition]] = {}
    for stage in stages:
        if _target(stage) and not stage.prefix and "{" not in stage.cwd:
            found.setdefault((invocation(stage).cwd, repr(dict(stage.env))), []).append(stage)
    for alike in found.values():
        own = invocation(alike[0])
        for stage, fault in zip(alike, _faults(own, [_target(stage) for stage in alike]), strict=False):
            if fault:
                key = "function" if stage.function else "command"
                place = f"for {own.python}, in {own.cwd}"
                raise ConfigError(f"{where}.{stage.name}.{key}: {_target(stage)}: {fault} ({place})")


def _target(stage: StageDefinition) -> str:
    """`module:function`, the module of `python -m`, or nothing."""
    first, *rest = stage.command or ("",)
    module = rest[1] if first in PYTHONS and rest[:1] == ["-m"] and len(rest) > 1 else ""
    return stage.function or ("" if "{" in module else module)


def _faults(invocation: Invocation, targets: Sequence[str]) -> list[str]:
    """What is wrong with each target; empty: nothing. Asked again when the file of one has changed."""
    kept_at = invocation.cache / "targets.json"
    kept = dict(read_json(kept_at, {str: {}}) or {})
    meant = [invocation.python, str(invocation.cwd), dict(invocation.env), list(targets)]
    key = digest(canonical(meant))
    if key in kept and kept[key] == _signatures(kept[key]):
        return []
    said = _ask(invocation, targets)
    faults = [text[1:] if text.startswith("!") else "" for text in said]
    if said and not any(faults):
        write_json(kept_at, {**kept, key: _signatures(said)})
    return faults


def _signatures(files: Iterable[str]) -> dict[str, list[int]]:
    found = {}
    for name in files:
        with suppress(OSError):
            stat = Path(name).stat()
            found[name] = [stat.st_mtime_ns, stat.st_size]
    return found


def _ask(invocation: Invocation, targets: Sequence[str]) -> list[str]:
    """What the script says of each target; nothing where it cannot be asked, which the run finds."""
    try:
        done = subprocess.run(
            [str(invocation.interpreter()), str(_SCRIPT), *targets],
            cwd=invocation.cwd,
            env=invocation.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return []
    lines = done.stdout.splitlines()
    return lines if len(lines) == len(targets) else []
