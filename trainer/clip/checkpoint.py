"""Checkpoints: written whole or not at all, and read back only when every byte is as it was written.

A checkpoint is what `torch.save` writes: a zip file whose entries carry CRC-32 sums. `torch.load` does not
check them, so `load` does, first: a torn or altered file is found out before anything is restored from it.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from ablative.study.core.damage import set_aside
from ablative.study.core.errors import DataError, LostOutputError
from ablative.study.core.files import replacing
from ablative.study.core.typed import load_config
from ablative.study.home.paths import RunPaths
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.config import RunConfig

FORMAT = 1
"""Layout of both files; a file of another layout counts as corrupt."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError, KeyError)
"""What zipfile and torch raise on bytes that are not theirs (NotImplementedError is a RuntimeError)."""


class CorruptError(Exception):
    """The checkpoint exists and is not what was once written."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` with `state` (tensors, numbers, text and containers of them).

    Raises OSError (disk full, quota, read-only) and then leaves the old file as it was.
    """
    with replacing(path) as file:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:
            # torch reports a failed write as its own broken invariant and hides the reason behind it.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load(path: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU; None where there is no file.

    Raises CorruptError on a torn or altered file and OSError where it cannot be read at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise CorruptError(f"{path.name}: checksum of {broken} does not match")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        raise CorruptError(f"{path.name}: {type(error).__name__}: {error}") from None
    if state.get("format") != FORMAT:
        raise CorruptError(f"{path.name}: layout {state.get('format')}, expected {FORMAT}")
    return state


def remove_leftovers(paths: RunPaths) -> None:
    """Delete half-written files of killed attempts; only the holder of the run's claim may call this."""
    for target in (paths.checkpoint, paths.model):
        for leftover in target.parent.glob(f".{target.name}.*"):
            leftover.unlink(missing_ok=True)


def load_system(paths: RunPaths) -> tuple[System, Tokenizer, RunConfig]:
    """The trained model of a run in evaluation mode on the CPU, with its tokenizer and configuration.

    Raises DataError when the run has no final model, or a damaged one. Global random state is left alone.
    """
    config = load_config(paths.config, RunConfig)
    state, tokenizer = final_model(paths)
    with torch.random.fork_rng(devices=[]):
        system = System(config.model, config.objective, tokenizer.vocab_size)
    system.load_state_dict(state)
    return system.eval(), tokenizer, config


def final_model(paths: RunPaths) -> tuple[dict[str, torch.Tensor], Tokenizer]:
    """Final weights of a run, by name and on the CPU, with its tokenizer.

    Raises LostOutputError when the run has none, or damaged ones; a finished run then counts as not finished any more.
    """
    try:
        state = load(paths.model)
        if state is not None and paths.tokenizer.exists():
            return state["model"], Tokenizer.load(paths.tokenizer)
        reason = "no final model" if state is None else "no tokenizer"
    except (CorruptError, DataError) as error:
        reason = f"the final model is damaged ({error})"
    if not paths.record.exists():
        raise LostOutputError(f"run {paths.root.name}: {reason}; train the run before what needs it")
    set_aside(paths.record, reason)
    raise LostOutputError(f"run {paths.root.name}: {reason}; it is trained again, and then what needs it is done")
