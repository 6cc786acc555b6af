"""The registry of trainers. This is the only file that names modules of the shipped ones; it imports none of them."""

from __future__ import annotations

from collections.abc import Iterable

GROUP = "ablate.trainers"
"""Entry point group of the trainers that other distributions install; one is loaded only when a study names it."""
DEFAULT = "clip"
"""Trainer of a study that names none."""
SHIPPED = {
    "clip": "ablative.trainer.clip.plugin.trainer:TRAINER",
    "program": "ablative.trainer.program.trainer:TRAINER",
    "results": "ablative.trainer.results.trainer:TRAINER",
}
"""Name → `module:object` of the trainers that come with this program."""
SHIPPED_CONF = {"clip": ("ablative.trainer", "clip/conf")}
"""Name → package and folder of their config groups and studies: listing studies imports no trainer."""
IMPLIED: dict[str, tuple[str, tuple[str, ...]]] = {
    "stages": ("program", ()),
    "results": ("results", ("base", "protocols", "stages")),
}
"""Key → trainer of a study that names none and has this key, unless it has one of the others."""
COMMANDS = {
    "data": "ablative.trainer.clip.data.cli:data",
    "init": "ablative.trainer.program.proposal.cli:init",
}
"""Subcommands of `ablate` that a shipped trainer adds."""


def implied(keys: Iterable[str]) -> str:
    """The trainer of a study that has these keys, and names none."""
    found = set(keys)
    for key, (trainer, others) in IMPLIED.items():
        if key in found and found.isdisjoint(others):
            return trainer
    return DEFAULT
