"""The words with which a study was last run, for commands that are called without them."""

from __future__ import annotations

import shlex

from ablative.study.core.files import read_json
from ablative.study.plan.plan import Plan
from ablative.study.spec.compose import GROUPS


def other_words(plan: Plan, command: str, about: str = "its results") -> str:
    """A line that names the words of the last run or submission and repeats `command` with them.

    Empty where this plan has the same words, apart from those that say where runs go, and where nothing was submitted.

    Args:
        plan: of this call.
        command: its name, and options that go with it.
        about: what the command is about.
    """
    stored = read_json(plan.home.study(plan.study.name).plan, {"asked?": str}) or {}
    last = stored.get("asked", "")
    if not last or _meaning(last) == _meaning(plan.asked):
        return ""
    words = shlex.join(sorted(_meaning(last))) or "no words"
    return f"{plan.study.name} was last run with {words}; for {about}: ablate {command} {last}"


def _meaning(asked: str) -> frozenset[str]:
    """The words of a call that say what is run."""
    words = shlex.split(asked.partition(" --config-dir ")[0])[1:]
    return frozenset(word for word in words if word.partition("=")[0].partition(".")[0] not in GROUPS)
