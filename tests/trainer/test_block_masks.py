"""Rectangles of hidden patches, against BEiT's published generator (microsoft/unilm, beit/masking_generator.py)."""

from __future__ import annotations

import pytest
import torch
from tiny_run import MODEL, make_config
from torch import Tensor

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.objectives.masking import block_scores, split_blocks, split_image
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.checks import check_run
from ablative.trainer.clip.spec.loss_options import MaskConfig


def masks(size: int, side: int, count: int, **options: float) -> Tensor:
    """Patches that rectangles cover, bool (size,side,side)."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(size, side * side, generator=generator)
    found = block_scores(scores, count, MaskConfig(shape="blocks", **options), generator)  # type: ignore[arg-type]
    assert torch.equal(found.where(found < 1, scores), scores)
    return (found >= 1).view(-1, side, side)


@pytest.mark.parametrize(
    ("most", "mean", "deviation", "full", "alike", "corner", "centre"),
    [(0, 74.473, 0.989, 0.666, 0.8898, 0.0422, 0.7155), (40, 74.559, 0.855, 0.700, 0.8790, 0.0439, 0.6709)],
)
def test_rectangles_are_distributed_as_beits(
    most: int, mean: float, deviation: float, full: float, alike: float, corner: float, centre: float
) -> None:
    """75 of 14 × 14 patches. Its generator gave these values in 20,000 masks: how many patches are hidden and how often
    all 75 are, how often neighbours are alike, and how often patches in corners and in the centre are hidden."""
    found = masks(6000, 14, 75, max_patches=most)
    counts, shares = found.sum((1, 2)).double(), found.double().mean(0)
    assert counts.max() == 75
    assert float(counts.mean()) == pytest.approx(mean, abs=0.06)
    assert float(counts.std()) == pytest.approx(deviation, abs=0.06)
    assert float((counts == 75).double().mean()) == pytest.approx(full, abs=0.025)
    pairs = (found[:, 1:] == found[:, :-1], found[:, :, 1:] == found[:, :, :-1])
    assert [float(pair.double().mean()) for pair in pairs] == pytest.approx([alike] * 2, abs=0.003)
    assert float(shares[[0, 0, -1, -1], [0, -1, 0, -1]].mean()) == pytest.approx(corner, abs=0.006)
    assert float(shares[6:8, 6:8].mean()) == pytest.approx(centre, abs=0.015)


def test_aspect_ratios_are_distributed_as_beits() -> None:
    """Its 30,000 masks of 12 patches in rectangles of 12 are one rectangle in 82.8 %, with these logarithms of height
    over width, in these shares: 2:6 and 3:4 and so on are drawn by area and aspect, then rounded."""
    found = masks(10_000, 14, 12, min_patches=12)
    rows, columns = found.any(2), found.any(1)
    spans = [line.int().argmax(1) for line in (rows, rows.flip(1), columns, columns.flip(1))]
    height, width = 14 - spans[0] - spans[1], 14 - spans[2] - spans[3]
    single = height * width == found.sum((1, 2))
    assert float(single.double().mean()) == pytest.approx(0.828, abs=0.015)
    logarithms = (height / width)[single].log().round(decimals=3)
    values, counts = logarithms.unique(return_counts=True)
    expected = {-1.099: 3975, -0.916: 1288, -0.288: 7103, 0.0: 145, 0.288: 7030, 0.916: 1333, 1.099: 3964}
    shares = dict(zip((round(value, 3) for value in values.tolist()), (counts / counts.sum()).tolist(), strict=True))
    assert shares == pytest.approx({key: count / 24_838 for key, count in expected.items()}, abs=0.016)


def test_what_is_hidden_is_of_rectangles_first() -> None:
    """Without a place for a rectangle, one patch is hidden all the same; where the number is fixed, single patches
    complete it."""
    scores = torch.tensor([[0.1, 1.3, 1.2, 0.9], [0.4, 0.1, 0.3, 0.2]])
    whole, blocks = split_image(scores, 0.25), split_blocks(scores, 0.25)
    assert whole.hidden.tolist() == blocks.hidden.tolist() == [[1], [0]]
    three = split_blocks(scores, 0.75)
    assert three.hidden.tolist() == [[3, 2, 1], [3, 2, 0]] and three.hidden_valid is not None
    assert three.hidden_valid.tolist() == [[False, True, True], [False, False, True]]
    assert three.hidden_counts().tolist() == [2, 1]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MaskConfig(shape="blocks", min_patches=13), "13 is more than the 12 patches that are hidden of an image's 16"),
        (MaskConfig(shape="blocks", min_patches=4, max_patches=3), r"max_patches: 3 is less than .*min_patches \(4\)"),
    ],
)
def test_impossible_rectangles(mask: MaskConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_run(make_config("maskclip", objective__mask=mask))
    check_run(make_config("clip", objective__mask=mask))
    check_run(make_config("mae_clip similarity", objective__mask=mask))


def test_a_run_hides_rectangles() -> None:
    config = make_config("mae", objective__mask=MaskConfig(shape="blocks", min_patches=4))
    system = System(config.model, config.objective, MODEL.vocab_size)
    scores = system.draw(200, torch.Generator().manual_seed(0)).image
    hidden = split_image(scores, config.objective.mask_ratio).hidden
    mask = torch.zeros(200, 16, dtype=torch.bool).scatter(1, hidden, True).view(-1, 4, 4)
    alike = float((mask[:, 1:] == mask[:, :-1]).double().mean())
    single = System(config.model, make_config("mae").objective, MODEL.vocab_size)
    plain = split_image(single.draw(200, torch.Generator().manual_seed(0)).image, config.objective.mask_ratio).hidden
    other = torch.zeros(200, 16, dtype=torch.bool).scatter(1, plain, True).view(-1, 4, 4)
    assert (mask.sum((1, 2)) == 12).all()
    assert alike > float((other[:, 1:] == other[:, :-1]).double().mean()) + 0.05
