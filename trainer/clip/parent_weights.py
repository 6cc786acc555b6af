"""Starts a run from the final weights of another (`from:` in a level of a study)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from ablative.study.core.errors import DataError
from ablative.study.home.journal import Journal
from ablative.study.home.paths import RunPaths
from ablative.trainer.clip.checkpoint import final_model
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.teacher import CodeTeacher, Teacher

WORDS = "text.embedding.weight"
"""Word embeddings: a row for each token of the tokenizer."""


def start_from(system: System, tokenizer: Tokenizer, parent: RunPaths, journal: Journal) -> str:
    """Replace the weights of a system by those of a finished run, in so far as both have them; a line for the log.

    What the run has not (a decoder, a head) stays as it was initialised; an event names it.

    Raises:
        DataError: the run has no final model, a weight of another shape, or word embeddings of other tokens.
    """
    state, its_tokenizer = final_model(parent)
    own = system.state_dict()
    shared = [name for name in own if name in state]
    if WORDS in shared and its_tokenizer.fingerprint != tokenizer.fingerprint:
        raise DataError(
            f"run {parent.root.name}, from which this one starts, has learned other tokens (tokenizer "
            f"{its_tokenizer.fingerprint}, this run's is {tokenizer.fingerprint}); have both fitted on the same text: "
            "the same data, or the same data.tokenizer_texts, and the same model.vocab_size and context_length"
        )
    for name in shared:
        if state[name].shape != own[name].shape:
            raise DataError(
                f"run {parent.root.name}, from which this one starts, has {name} of shape {tuple(state[name].shape)}; "
                f"this run's is {tuple(own[name].shape)}"
            )
    with torch.no_grad():
        for name in shared:
            own[name].copy_(state[name])
    random, left = [name for name in own if name not in state], [name for name in state if name not in own]
    journal.event("started from", run=parent.root.name, random=random, left=left)
    return f"starts from the weights of run {parent.root.name}; random: {_parts(random)}; left: {_parts(left)}"


def learn_from(teacher: Teacher | CodeTeacher, parent: RunPaths, journal: Journal) -> str:
    """Take a finished run's image tower, or its tokenizer of images, as the teacher; a line for the log.

    Raises:
        DataError: the run has no final model, or a tower of another shape.
    """
    state, _ = final_model(parent)
    own = teacher.tower.state_dict()
    # A teacher sees whole images, without mask tokens.
    for name, weight in ((name, weight) for name, weight in own.items() if name != "mask_token"):
        found = state.get(f"{teacher.part}.{name}")
        if found is None or found.shape != weight.shape:
            shape = "no such weight" if found is None else f"the shape {tuple(found.shape)}"
            raise DataError(
                f"run {parent.root.name}, whose {teacher.yields} this one learns, has {shape} for "
                f"{teacher.part}.{name}; this run's is {tuple(weight.shape)}"
            )
        weight.copy_(found)
    journal.event("learns from", run=parent.root.name)
    return f"learns the {teacher.yields} of run {parent.root.name}"


def _parts(names: Iterable[str]) -> str:
    """How many weights of each part: `decoder (14)`."""
    counts = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
