"""Question answering: what is trained, what stays frozen, stages, losses by hand, and that it learns to answer."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from protocol_fakes import MODEL, Words, representation

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.questions.questions import Questions, QuestionSplit, targets
from ablative.trainer.clip.data.sources import open_dataset
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.protocols.parts.training import batches, layer, layered_adamw, learning_rate, set_rate
from ablative.trainer.clip.protocols.vqa import INPUTS, Answerer, answer_loss, dense, vqa
from ablative.trainer.clip.spec.config import DatasetConfig, ProtocolConfig

FIELDS: dict[str, Any] = {"lr": 5e-3, "epochs": 3, "batch_size": 16, "layer_decay": 0.8}
SMALL = DatasetConfig(name="q", kind="shapes", task="questions", train=12, test=6)


class Vocabulary(Words):
    vocab_size = MODEL.vocab_size


def evaluation(
    folder: Path, config: DatasetConfig = SMALL, objective: str = "clip", dataset: Any = None, **fields: Any
) -> Evaluation:
    found = representation(folder, objective)
    model = Representation(found.system, Vocabulary(), found.config, found.paths, found.device)
    protocol = ProtocolConfig(**{"name": "vqa", "kind": "vqa", **FIELDS, **fields})
    return Evaluation(protocol, config, dataset or open_dataset(config, 32, Home(folder)), model, "content")


class Told:
    """Four images, whose brightness answers one question and not the other."""

    classes: tuple[str, ...] = ()
    background: tuple[str, ...] | None = None

    def split(self, name: str) -> QuestionSplit:
        class Pictures:
            def __len__(self) -> int:
                return 4

            def images(self, i: int) -> np.ndarray:
                return np.full((32, 32, 3), 200 * (i % 2) + 30 * (i // 2), np.uint8)

        images = np.repeat(np.arange(4), 2)
        answers = [
            ("dark", "light")[i % 2] if kind == "shade" else "yes" for i in range(4) for kind in ("shade", "any")
        ]
        texts = ["is it dark", "anything there"] * 4
        return QuestionSplit(Pictures(), Questions(images, texts, [(one,) for one in answers]), "told")  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["clip", "m3ae", "mae"])
def test_learns_from_image_and_question(tmp_path: Path, objective: str) -> None:
    found = dict(vqa(evaluation(tmp_path, objective=objective, dataset=Told(), lr=1e-2, epochs=80, batch_size=8)))
    assert found == {"accuracy": 100.0, "majority": 50.0}, "a question alone gets 75 %, an image alone 50 %"


def test_encoders_stay_as_they_are(tmp_path: Path) -> None:
    found = evaluation(tmp_path)
    before = {name: value.clone() for name, value in found.representation.system.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = dict(vqa(found))
    assert all(torch.equal(value, before[name]) for name, value in found.representation.system.state_dict().items())
    assert all(parameter.grad is None for parameter in found.representation.system.parameters())
    assert torch.equal(torch.get_rng_state(), state), "evaluation touched the global generator"
    assert dict(vqa(evaluation(tmp_path))) == first and 0 < first["majority"] < 100
    assert not list(tmp_path.rglob("*.npy")), "tokens of images are not cached"


@pytest.mark.parametrize(("asked", "depth"), [(0, MODEL.decoder_depth), (3, 3)])
def test_the_decoder_is_as_deep_as_the_protocol_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int, depth: int
) -> None:
    depths: list[int] = []

    def follow(reader: Any, *_: Any) -> None:
        depths.append(len(reader.answerer.trunk.blocks))

    monkeypatch.setattr(importlib.import_module("ablative.trainer.clip.protocols.vqa"), "fit", follow)
    dict(vqa(evaluation(tmp_path, decoder_depth=asked)))
    assert depths == [depth]


def test_stages_have_their_own_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def follow(reader: Any, split: QuestionSplit, worth: Any, protocol: ProtocolConfig, epochs: int) -> None:
        seen.append((len(split.questions), epochs))

    # The package has the function under the name of its module.
    monkeypatch.setattr(importlib.import_module("ablative.trainer.clip.protocols.vqa"), "fit", follow)
    staged = DatasetConfig(name="q", kind="shapes", task="balanced", train=30, test=6, first_epochs=5, epochs=2)
    dict(vqa(evaluation(tmp_path, staged)))
    (broad, first), (part, second) = seen
    assert (first, second) == (5, 2) and part < broad
    dict(vqa(evaluation(tmp_path)))
    assert seen[2:] == [(len(evaluation(tmp_path).questions("train").questions), 3)]


def test_answer_comes_from_the_first_word_and_padding_is_ignored() -> None:
    torch.manual_seed(0)
    answerer = Answerer(MODEL, 5, None).eval()
    patches, words = torch.randn(2, 16, MODEL.width), torch.randn(2, 6, MODEL.text_width)
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    expected = answerer(patches, words, valid)
    assert expected.shape == (2, 5)
    torch.testing.assert_close(answerer(patches[1:], words[1:, :4], valid[1:, :4]), expected[1:])
    rows: list[torch.Tensor] = []
    answerer.norm.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0]))
    states: list[torch.Tensor] = []
    answerer.trunk.register_forward_hook(lambda _, __, output: states.append(output))
    answerer(patches, words, valid)
    torch.testing.assert_close(rows[0], states[0][:, 16])


def test_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    one = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # softmax: 3/4 and 1/2
    assert answer_loss(logits, one, "cross_entropy").item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    soft = torch.tensor([[0.3, 0.9], [1.0, 0.0]])
    first = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert answer_loss(logits, soft, "cross_entropy").item() == pytest.approx((first + math.log(2)) / 2)
    # sigmoid: 1/2, 3/4; 1/2, 1/2
    first = math.log(2) + 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert answer_loss(logits, soft, "binary").item() == pytest.approx((first + 2 * math.log(2)) / 2)


def test_dense_targets_leave_unknown_answers_out() -> None:
    questions = Questions(np.arange(2), ["a", "b"], [("cat",) * 2 + ("cow",) * 8, ("dog",) * 10])
    found = dense(targets(questions, ("cat", "dog")), np.array([1, 0]), 2)
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0], [0.6, 0.0]]))


def test_binary_loss_also_learns(tmp_path: Path) -> None:
    found = evaluation(tmp_path, dataset=Told(), lr=1e-2, epochs=80, batch_size=8, answer_loss="binary")
    assert dict(vqa(found))["accuracy"] == 100.0


def test_what_cannot_be_answered_is_refused(tmp_path: Path) -> None:
    shape = DatasetConfig(name="s", kind="shapes", task="shape", train=8, test=8)
    with pytest.raises(ConfigError, match=r"data set s: it has no questions.*clevr, vqa_v2, gqa.*questions, opinions"):
        dict(vqa(evaluation(tmp_path, shape)))
    rare = DatasetConfig(name="q", kind="shapes", task="questions", train=12, test=6, min_answers=1000)
    with pytest.raises(DataError, match=r"0 answers that at least 1000 training questions have \(min_answers\)"):
        dict(vqa(evaluation(tmp_path, rare)))


def test_rates_fall_with_the_depth() -> None:
    answerer = Answerer(MODEL, 5, None)
    names = dict(answerer.named_parameters())
    assert layer("from_image.weight", 3, INPUTS) == 0 and layer("modality", 3, INPUTS) == 0
    assert [layer(f"trunk.blocks.{i}.mlp.up.bias", 3, INPUTS) for i in range(3)] == [1, 2, 3]
    assert layer("answer.weight", 3, INPUTS) == layer("norm.weight", 3, INPUTS) == 4
    protocol = ProtocolConfig(name="p", kind="vqa", lr=1.0, layer_decay=0.5, weight_decay=0.05)
    optimizer = layered_adamw(answerer, protocol, 1, INPUTS)
    set_rate(optimizer, 8.0)
    rates = {
        id(weight): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert len(rates) == len(names)
    found = [rates[id(names[name])] for name in ("from_text.weight", "trunk.blocks.0.mlp.up.weight", "answer.weight")]
    assert found == [(2.0, 0.05), (4.0, 0.05), (8.0, 0.05)]
    assert rates[id(names["modality"])] == (2.0, 0.0) and rates[id(names["answer.bias"])] == (8.0, 0.0)


def test_every_stage_warms_up_for_its_share_and_decays() -> None:
    protocol = ProtocolConfig(name="p", kind="vqa", epochs=50, warmup_epochs=5, batch_size=1)
    for epochs, warmup in ((5, 0.5), (2, 0.2), (50, 5.0)):
        rates = [rate for _, rate in batches(10, protocol, 1.0, torch.Generator(), epochs)]
        assert rates == [learning_rate(1.0, step / 10, epochs, warmup) for step in range(10 * epochs)]
        assert rates.index(max(rates)) == 10 * warmup and max(rates) == 1.0
        assert rates[-1] < 0.01


def test_batches_hold_every_sample_once_an_epoch() -> None:
    protocol = ProtocolConfig(name="p", kind="vqa", epochs=2, batch_size=4)
    found = list(batches(10, protocol, 1.0, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows, _ in found] == [4, 3, 3] * 2
    for epoch in (found[:3], found[3:]):
        assert sorted(torch.cat([rows for rows, _ in epoch]).tolist()) == list(range(10))
