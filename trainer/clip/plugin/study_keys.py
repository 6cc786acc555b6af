"""Keys of a study file that the shipped trainer adds."""

from __future__ import annotations

from dataclasses import dataclass

from ablative.study.core.typed import field
from ablative.study.syntax.forms import Condition


@dataclass(frozen=True, kw_only=True)
class ClipKeys:
    """Keys of a study file that this trainer adds."""

    protocols: list[str] | dict[str, Condition] = field(())
    """Protocols that evaluate each run (`ablate list protocol`); as a mapping, with the levels of the cells that have
    them: `{zero_shot: {}, finetune: {pooling: gap}}`."""
