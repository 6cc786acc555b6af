"""Nothing in a training step waits for the device, and nothing breaks its compiled graphs; both are seen without a GPU.

A tensor of `FakeTensorMode` has a shape and no values. Whatever would make the host wait for a GPU asks for a value
(`.item()`, `.tolist()`, `bool`, `nonzero`, a mask as an index), and with such tensors raises.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fake_step import step_without_values
from small_systems import contrast, make_system, reconstruction
from small_systems import make_batch as whole_batch
from tiny_run import MODEL, OBJECTIVES, make_batch, make_config
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import DataDependentOutputException

from ablative.trainer.clip.objectives import losses
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.terms.term import Inputs, SampleTerm
from ablative.trainer.clip.spec.config import RunConfig


def take_step(config: RunConfig, rows: int | None, number: int) -> None:
    """Step `number`, on tensors without values from where they would have been copied to the device."""
    with step_without_values(config, rows, MODEL.context_length) as (update, batch):
        update(number, batch)


def most_rows(config: RunConfig) -> int | None:
    system = System(config.model, config.objective, MODEL.vocab_size)
    tokens = make_batch(config.schedule.batch_size).tokens
    found = [term.rows(tokens) for term in system.terms if isinstance(term, SampleTerm)]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("objective", "number"), [*((objective, 100) for objective in OBJECTIVES), ("clip", 0), ("mae_clip similarity", 0)]
)
def test_no_step_waits_for_the_device(objective: str, number: int) -> None:
    """In the global phase, and from step 0 in the local one."""
    config = make_config(objective)
    take_step(config, most_rows(config), number)


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime__micro_batch": 4},
        {"schedule__precision": "bf16"},
        {"schedule__grad_clip": 1.0},
        {"runtime__checkpoint_activations": True},
        {"model__pooling": "max"},
        {"model__pooling": "gap"},
        {"objective__similarity_reduce": "filip_max"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_option_makes_it_wait(changes: dict[str, Any]) -> None:
    config = make_config("mae_clip similarity", **changes)
    take_step(config, most_rows(config), 100)


def test_a_step_that_waits_would_be_noticed() -> None:
    """Counting the masked words on the device, which is what the bound from the CPU is there to avoid."""
    with pytest.raises(DataDependentOutputException):
        take_step(make_config("mae_clip"), None, 100)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
@pytest.mark.parametrize(
    ("objective", "changes"),
    [("masked_clip", {}), ("masked_clip", {"input_text_mask_ratio": 0.5}), ("mae", {}), ("m3ae", {})],
)
def test_every_pass_is_one_graph(objective: str, changes: dict[str, Any]) -> None:
    """`fullgraph` raises at the first break; MAE-CLIP with similarity masking is among the tests of the system."""
    torch.compiler.reset()
    system, (images, tokens) = make_system(objective, **changes), whole_batch()
    draws = system.draw(len(images), torch.Generator().manual_seed(0))
    embeddings = None
    if system.contrastive:
        features = contrast(system).features
        embeddings = torch.compile(features, fullgraph=True, backend="eager")(Inputs(images, tokens, draws))
        torch.testing.assert_close(embeddings.image, features(Inputs(images, tokens, draws)).image)
    if system.recipe.generative:
        losses = reconstruction(system).losses
        given = Inputs(images, tokens, draws, reconstruction(system).rows(tokens)), {"contrastive": embeddings}
        found = torch.compile(losses, fullgraph=True, backend="eager")(*given)
        torch.testing.assert_close(found.image, losses(*given).image)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own doing
@pytest.mark.long
def test_other_lengths_and_counts_soon_need_no_other_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions are trimmed, and masked words counted, for each piece: a graph for each of these would be compiled anew
    until the compiler gives up. For each change the graphs of one length stay, above."""
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(losses, "CHUNK", 8)
    system, (images, tokens) = make_system("m3ae"), whole_batch(24)
    draws = system.draw(len(images), torch.Generator().manual_seed(0))
    direct = reconstruction(system).losses
    compiled = torch.compile(direct, backend="eager")
    graphs = []
    for length, rows in ((12, 64), (10, 48), (12, 70), (8, 56), (9, 33), (11, 17), (12, 33), (8, 70)):
        words = tokens[:, :length].contiguous()
        found = compiled(Inputs(images, words, draws, rows), {})
        torch.testing.assert_close(found.text, direct(Inputs(images, words, draws, rows), {}).text)
        graphs.append(counters["stats"]["unique_graphs"])
    # The first length is a graph of its own, and whole captions are not a cut.
    assert graphs[2] <= 3 and graphs[3:] == [graphs[2]] * 5, graphs
