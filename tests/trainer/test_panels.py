"""Pictures: Grad-CAM by hand, restored patches where they belong, and archives that hold what a model can show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from protocol_fakes import EvaluationSet, Split, evaluation, random_split
from small_systems import embed, make_batch, make_system, reconstruct, reconstruction
from torch import nn

from ablative.study.home.panel_pictures import NEEDED
from ablative.study.home.paths import TaskPaths
from ablative.trainer.clip.models.patches import patchify
from ablative.trainer.clip.objectives.losses import normalize_patches
from ablative.trainer.clip.protocols.panels import keep
from ablative.trainer.clip.protocols.parts.kept_pictures import examples, spread
from ablative.trainer.clip.protocols.parts.visualise import grad_cam, restore_images, unpatchify
from ablative.trainer.clip.spec.panel_pictures import pictures_path

TRAINED = ("fine_tuned_segmentation", "detection")
"""Pictures that other protocols keep."""
PANELS = {"name": "panels", "kind": "panels", "prompt": "a photo of {a} {}"}


class Tokens(nn.Module):
    """A trunk whose output is given."""

    def __init__(self, tokens: torch.Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, _: torch.Tensor, **given: object) -> torch.Tensor:
        return self.tokens


def test_grad_cam_by_hand() -> None:
    system = make_system("clip", pooling="gap", embed_dim=2).eval()
    tokens = torch.zeros(1, 16, 32)
    tokens[0, 5, 0], tokens[0, 9, 0], tokens[0, 2, 1] = 3.0, 1.0, 4.0
    system.image.trunk, system.image.norm = Tokens(tokens), nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        system.image_head.project.weight.zero_()
        system.image_head.project.weight[0, 0] = system.image_head.project.weight[1, 1] = 1.0
    # The mean token is (1/4, 1/4): towards (1, 0) channel 0 raises the cosine, and channel 1 lowers it as much.
    [map_] = grad_cam(system, torch.zeros(1, 3, 32, 32), torch.tensor([[1.0, 0.0]]))
    coarse = torch.zeros(16)
    coarse[5], coarse[9] = 3.0, 1.0
    wanted = nn.functional.interpolate(coarse.view(1, 1, 4, 4), size=32, mode="bilinear")[0, 0]
    torch.testing.assert_close(map_, wanted / wanted.max())


@pytest.mark.parametrize("pooling", ["map", "gap", "max"])
def test_grad_cam_agrees_with_its_definition(pooling: str) -> None:
    system = make_system("clip", pooling=pooling).eval()
    images, tokens = make_batch(3)
    texts = system.encode_text(tokens).detach()
    found = grad_cam(system, images, texts)
    before = system.image.trunk(system.image.stem(images) + system.image.positions).detach().requires_grad_()
    similarity = system.image_head(system.image.norm(before)) * texts
    [gradient] = torch.autograd.grad(similarity.sum(), before)
    coarse = (before * gradient.mean(1, keepdim=True)).sum(-1).clamp(min=0).detach().view(3, 1, 4, 4)
    maps = nn.functional.interpolate(coarse, size=32, mode="bilinear")[:, 0]
    torch.testing.assert_close(found, maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12))
    assert not system.image.trunk._forward_hooks and found.shape == (3, 32, 32)


@pytest.mark.parametrize("objective", ["mae", "m3ae", "mae_clip"])
def test_only_hidden_patches_are_restored(objective: str) -> None:
    system = make_system(objective).eval()
    images, tokens = make_batch(2)
    hidden, restored = restore_images(system, images, tokens, torch.Generator().manual_seed(3))
    assert hidden.float().mean((1, 2)).tolist() == [0.75, 0.75]
    assert torch.equal(restored.masked_select(~hidden[:, None]), images.masked_select(~hidden[:, None]))
    # what was decoded, with the true patch's mean and deviation, gives the loss that training has
    draws = system.draw(2, torch.Generator().manual_seed(3))
    with torch.no_grad():
        embeddings = embed(system, images, tokens, draws) if reconstruction(system).by_similarity else None
        loss = reconstruct(system, images, tokens, draws, embeddings).image
    true, made = patchify(images, 8), patchify(restored, 8)
    variance, mean = torch.var_mean(true, dim=-1, keepdim=True)
    errors = ((made - mean) / (variance + 1e-6).sqrt() - normalize_patches(true)).square().mean(-1)
    torch.testing.assert_close((errors.sum(1) / 12), loss, rtol=1e-3, atol=1e-4)
    again = restore_images(system, images, tokens, torch.Generator().manual_seed(3))
    assert torch.equal(again[1], restored)


def test_unpatchify_is_the_inverse() -> None:
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(unpatchify(patchify(images, 8), 8), images)


def dataset(**parts: Any) -> EvaluationSet:
    whole = random_split(12, 3)
    split = Split(whole.pixels, whole.labels, **parts)
    return EvaluationSet(("apple", "red pear", "plum"), {"test": split})


def arrays(folder: Path, data: EvaluationSet, objective: str, **fields: Any) -> dict[str, np.ndarray]:
    task = TaskPaths(folder / "task")
    keep(evaluation(folder / "run", data, {**PANELS, **fields}, objective=objective), task)
    with np.load(pictures_path(task, "fake"), allow_pickle=False) as archive:
        return dict(archive)


def test_everything_that_model_and_data_allow_is_kept(tmp_path: Path) -> None:
    segments = np.random.default_rng(0).integers(0, 4, (12, 32, 32)).astype(np.uint8)
    captions = [[f"thing number {i}"] for i in range(12)]
    found = arrays(tmp_path, dataset(captions=captions, segments=segments), "mae_clip")
    assert all(name in found for show, names in NEEDED.items() if show not in TRAINED for name in names)
    assert examples(12) == [0, 2, 4, 6, 8, 10] and found["images"].shape == (6, 32, 32, 3)
    most = [np.bincount(segments[i].ravel(), minlength=4)[1:].argmax() for i in examples(12)]
    assert found["prompts"].tolist() == ["a photo of " + ("an apple", "a red pear", "a plum")[label] for label in most]
    assert np.array_equal(found["truth"], segments[::2]) and set(np.unique(found["segments"])) <= {0, 1, 2, 3, 255}
    assert found["names"].tolist() == ["background", "apple", "red pear", "plum"]
    assert found["texts"].shape == (6, 3) and found["similarity"].shape == (6, 3, 4, 4)
    assert found["texts"][0, :2].tolist() == ["thing number 0", found["prompts"][0]], "the caption, then what it shows"
    model = evaluation(tmp_path / "run", dataset(), PANELS, objective="mae_clip").representation
    [patches] = model.patch_embeddings(Split(found["images"]), 6)
    cosines = patches[1] @ torch.from_numpy(model.text_embeddings(found["texts"][1].tolist())).T
    np.testing.assert_allclose(found["similarity"][1].reshape(3, 16), cosines.mT.numpy(), atol=1e-5)
    assert found["queries"].tolist() == ["thing number 0", "thing number 2", "thing number 4"]
    assert found["found"].shape == (3, 5, 32, 32, 3) and (found["hits"].sum(1) <= 1).all()
    assert found["points"].shape == (12, 2) and found["labels"].tolist() == [0, 1, 2] * 4
    seen = found["visible"][..., None] > 0
    assert np.array_equal(np.where(seen, found["restored"], 0), np.where(seen, found["images"], 0))


def test_the_same_model_gives_the_same_pictures(tmp_path: Path) -> None:
    data = dataset(captions=[["one"]] * 12)
    one, other = arrays(tmp_path / "a", data, "clip"), arrays(tmp_path / "b", data, "clip")
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert one["hits"].all()  # every image carries that caption
    assert "truth" not in one and "restored" not in one
    # without masks a label names what is looked for
    assert one["texts"][0].tolist() == ["one", "a photo of an apple", ""] and not one["similarity"][0, 2].any()
    assert one["prompts"].tolist()[:3] == ["a photo of an apple", "a photo of a plum", "a photo of a red pear"]


@pytest.mark.parametrize("masked", [True, False])
def test_a_prompt_without_a_class_is_looked_for_as_it_stands(tmp_path: Path, masked: bool) -> None:
    segments = np.random.default_rng(0).integers(0, 4, (12, 32, 32)).astype(np.uint8)
    data = dataset(segments=segments) if masked else dataset(captions=[["one"]] * 12)
    if not masked:
        data.classes, data.splits["test"].labels = (), np.zeros(0, np.int64)
    found = arrays(tmp_path, data, "clip", prompt="a photo of a dog")
    assert found["prompts"].tolist() == ["a photo of a dog"] * 6
    assert found["names"].tolist() == ["background", "a photo of a dog"] and "truth" not in found
    model = evaluation(tmp_path / "run", data, PANELS).representation
    texts = torch.from_numpy(model.text_embeddings(["a photo of a background", "a photo of a dog"]))
    [patches] = model.patch_embeddings(Split(found["images"]), 6)
    scores = nn.functional.interpolate((patches @ texts.T).mT.unflatten(2, (4, 4)), size=32, mode="bilinear")
    assert np.array_equal(found["segments"], (scores[:, 1] > scores[:, 0]).numpy())


def test_nothing_is_looked_for_where_nothing_is_named(tmp_path: Path) -> None:
    """An empty text would have some evidence, of nothing."""
    segments = np.zeros((12, 32, 32), np.uint8)
    segments[2, 0, 0] = 1
    data = dataset(segments=segments)
    data.splits["test"].labels = np.zeros(0, np.int64)
    found = arrays(tmp_path, data, "clip")
    assert found["prompts"].tolist() == ["", "a photo of an apple", "", "", "", ""]
    assert found["grad_cam"].max(axis=(1, 2)).tolist() == [0, 255, 0, 0, 0, 0]


def test_points_are_spread_over_sets_that_are_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[keep.__module__], "POINTS", 10)
    data = dataset()
    data.splits["test"] = random_split(30, 3)
    data.splits["test"].labels.sort()
    found = arrays(tmp_path, data, "mae")
    assert found["labels"].tolist() == [0] * 4 + [1] * 3 + [2] * 3 and found["points"].shape == (10, 2)
    assert spread(5, 10) == [0, 1, 2, 3, 4]


def test_a_model_without_a_joint_embedding_shows_what_it_can(tmp_path: Path) -> None:
    found = arrays(tmp_path, dataset(captions=[["one"]] * 12), "mae")
    assert set(found) == {"images", "visible", "restored", "points", "labels", "classes"}
