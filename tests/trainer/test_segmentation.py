"""Zero-shot segmentation: upsampling, groups of prompts, background, undecided pixels, mean IoU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from protocol_fakes import EvaluationSet, Split, evaluation, random_split
from small_models import MODEL

from ablative.study.core.errors import ConfigError, DataError
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.masks import segment
from ablative.trainer.clip.protocols.parts.windows import slide
from ablative.trainer.clip.protocols.segmentation import prompt_groups, prompt_maps, segmentation
from ablative.trainer.clip.spec.checks import check_evaluation
from ablative.trainer.clip.spec.config import DatasetConfig, ProtocolConfig

CLASSES = ("circle", "square", "star")
SEGMENTATION = {"kind": "segmentation", "prompt": "a photo of {a} {}"}


def masked_split(samples: int = 6, size: int = 32, labels: int = 4) -> Split:
    split = random_split(samples, 2)
    split.segments = np.random.default_rng(1).integers(0, labels, (samples, size, size)).astype(np.uint8)
    return split


def test_groups_share_names() -> None:
    names, groups = prompt_groups("background, wall", ("cat", "wall, brick wall"))
    assert names == ["background", "wall", "cat", "brick wall"]
    assert groups == [[0, 1], [2], [1, 3]]
    assert prompt_groups("", ("cat",)) == (["cat"], [[], [0]])


def test_scores_of_upsampled_embeddings_are_upsampled_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = F.normalize(torch.randn(2, 16, 8, generator=generator), dim=-1)
    prompts = F.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    grid = patches.transpose(1, 2).unflatten(2, (4, 4))
    dense = F.interpolate(grid, size=(13, 29), mode="bilinear", align_corners=False)
    expected = torch.einsum("behw,pe->bphw", dense, prompts)
    maps = prompt_maps(patches, prompts.numpy())
    found = F.interpolate(maps, size=(13, 29), mode="bilinear", align_corners=False)
    assert torch.allclose(found, expected, atol=1e-5)
    groups = [[0], [1], [2], [3], [4]]
    assert np.array_equal(segment(maps[1], groups, (13, 29)), expected[1].argmax(0).numpy())


def test_patches_keep_their_places() -> None:
    """Four patches, each exactly one prompt: quadrants in reading order."""
    maps = prompt_maps(torch.eye(4)[None], np.eye(4, dtype=np.float32))
    found = segment(maps[0], [[0], [1], [2], [3]], (2, 2))
    assert found.tolist() == [[0, 1], [2, 3]]


def test_the_best_of_a_groups_prompts_counts() -> None:
    maps = torch.tensor([[[0.1]], [[0.9]], [[0.5]]])
    assert segment(maps, [[0, 1], [2]], (1, 1)).tolist() == [[0]]
    assert segment(maps, [[0], [2]], (1, 1)).tolist() == [[1]]
    assert segment(maps, [[], [0], [1]], (1, 1)).tolist() == [[2]], "a label without prompts is skipped, not shifted"


def test_a_tie_is_undecided() -> None:
    maps = torch.tensor([[[0.5]], [[0.5]], [[0.1]]])
    assert segment(maps, [[0], [1], [2]], (1, 1)).tolist() == [[metrics.UNDECIDED]]
    assert segment(maps, [[0], [0, 2]], (1, 1)).tolist() == [[metrics.UNDECIDED]]


def test_classes_with_the_same_prompt_never_score(tmp_path: Path) -> None:
    dataset = EvaluationSet(("abc", "cab"), {"test": masked_split(labels=3)})
    protocol = {**SEGMENTATION, "prompt": "{}", "background": False}
    assert dict(segmentation(evaluation(tmp_path, dataset, protocol))) == {"miou": 0.0}


def test_miou_of_a_model_that_knows(tmp_path: Path) -> None:
    """Masks are set to what the model answers: 100 %; with a quarter of the pixels wrong, less."""
    split = masked_split()
    about = evaluation(tmp_path, EvaluationSet(CLASSES, {"test": split}), SEGMENTATION)
    names, groups = prompt_groups("background", CLASSES)
    embeddings = about.representation.text_embeddings([f"a photo of a {name}" for name in names])
    patches = torch.cat(list(about.representation.patch_embeddings(split, 4)))
    split.segments = np.stack([segment(maps, groups, (32, 32)) for maps in prompt_maps(patches, embeddings)])
    assert dict(segmentation(about)) == {"miou": 100.0}
    split.segments[:, :8] = (split.segments[:, :8] + 1) % 4
    assert 10 < dict(segmentation(about))["miou"] < 90
    split.segments[:, :8] = 255
    assert dict(segmentation(about)) == {"miou": 100.0}, "label 255 counts for nothing"


def test_masks_may_have_any_size(tmp_path: Path) -> None:
    split = masked_split(size=50)
    [(name, value)] = segmentation(evaluation(tmp_path, EvaluationSet(CLASSES, {"test": split}), SEGMENTATION))
    assert name == "miou" and 0 <= value <= 100


def test_without_background_its_pixels_are_ignored(tmp_path: Path) -> None:
    split = masked_split()
    dataset = EvaluationSet(CLASSES, {"test": split})
    first = dict(segmentation(evaluation(tmp_path, dataset, {**SEGMENTATION, "background": False})))
    split.segments[split.segments == 0] = 255
    again = dict(segmentation(evaluation(tmp_path, dataset, {**SEGMENTATION, "background": False})))
    assert first == again


def test_templates_of_the_data_set_stand_in_for_a_missing_prompt(tmp_path: Path) -> None:
    dataset = EvaluationSet(CLASSES, {"test": masked_split()})
    plain = {"kind": "segmentation"}
    photo = dict(segmentation(evaluation(tmp_path, dataset, plain, templates="photo")))
    assert photo == dict(segmentation(evaluation(tmp_path, dataset, SEGMENTATION)))
    assert photo != dict(segmentation(evaluation(tmp_path, dataset, plain)))


def slid(image: torch.Tensor, window: int, stride: int) -> torch.Tensor:
    """mmsegmentation's `slide_inference`, pixel by pixel: a window's score of a pixel is the sum of the window."""
    _, height, width = image.shape
    total, count = torch.zeros(height, width), torch.zeros(height, width)
    for i in range(max(height - window + stride - 1, 0) // stride + 1):
        for j in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(i * stride + window, height), min(j * stride + window, width)
            top, left = max(bottom - window, 0), max(right - window, 0)
            total[top:bottom, left:right] += image[0, top:bottom, left:right].sum()
            count[top:bottom, left:right] += 1
    return total / count


@pytest.mark.parametrize("size", [(8, 8), (9, 23), (16, 12), (8, 6), (5, 30)])
def test_windows_slide_as_in_mmsegmentation(size: tuple[int, int]) -> None:
    """A whole window is cut where an image ends, the mean is over the windows that hold a pixel."""
    image = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Size] = []

    def score(cut: torch.Tensor) -> torch.Tensor:
        seen.append(cut.shape)
        return cut[:, :1].sum((2, 3), keepdim=True)

    torch.testing.assert_close(slide(image, 8, 4, score)[0], slid(image, 8, 4))
    assert {shape[1:] for shape in seen} == {(3, 8, 8)}, "one that is smaller is filled up"
    constant = slide(image, 8, 4, lambda cut: torch.ones(len(cut), 2, 3, 3))
    torch.testing.assert_close(constant, torch.ones(2, *size))


def test_labels_of_a_large_image_are_taken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same labels and ties as at once."""
    maps = torch.randint(0, 4, (6, 3, 4), generator=torch.Generator().manual_seed(0)).float()
    groups = [[], [0, 1], [2], [3], [4, 0], [5]]
    expected = segment(maps, groups, (3, 4))
    assert (expected == metrics.UNDECIDED).any() and (expected != metrics.UNDECIDED).any()
    for pixels in (12, 24, 36):
        monkeypatch.setattr("ablative.trainer.clip.protocols.parts.masks.PIXELS", pixels)
        np.testing.assert_array_equal(segment(maps, groups, (3, 4)), expected)
    maps[2, 0, 0] = torch.nan
    assert segment(maps, groups, (3, 4))[0, 0] == metrics.UNDECIDED


def test_one_window_is_the_whole_image(tmp_path: Path) -> None:
    """Squares of the model's size score the same with windows as without, to the last pixel."""
    split = masked_split()
    about = evaluation(tmp_path, EvaluationSet(CLASSES, {"test": split}), {**SEGMENTATION, "background": False})
    assert dict(segmentation(about)) == dict(segmentation(replace(about, protocol=replace(about.protocol, stride=0.5))))


def test_a_reading_that_fits_no_model_is_refused() -> None:
    dense = ProtocolConfig(name="dense", kind="segmentation", patch_features="values", stride=0.5)
    with pytest.raises(ConfigError, match=r"protocol\.dense\.patch_features: values are of the tower's last block"):
        check_evaluation(dense, (), replace(MODEL, pooling="map"))
    gap = replace(MODEL, pooling="gap")
    with pytest.raises(ConfigError, match=r"ade\.short_side: 16, and windows have the model's 32 pixels"):
        check_evaluation(dense, (DatasetConfig(name="ade", kind="masks", short_side=16),), gap)
    check_evaluation(dense, (DatasetConfig(name="ade", kind="masks", short_side=32),), gap)


def test_what_segmentation_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="test sample 0 has no mask"):
        list(segmentation(evaluation(tmp_path, EvaluationSet(CLASSES, {"test": random_split(4, 2)}), SEGMENTATION)))
    with pytest.raises(ConfigError, match="no class names"):
        list(segmentation(evaluation(tmp_path, EvaluationSet((), {"test": masked_split()}), SEGMENTATION)))
    with pytest.raises(ConfigError, match="masks of shapes hold shapes or colours, and task 'count'"):
        about = evaluation(tmp_path, EvaluationSet(CLASSES, {"test": masked_split()}), SEGMENTATION)
        list(segmentation(replace(about, config=DatasetConfig(name="x", kind="shapes", task="count"))))
    with pytest.raises(DataError, match="mask label 4, expected 0 to 3 or 255"):
        dataset = EvaluationSet(CLASSES, {"test": masked_split(labels=8)})
        list(segmentation(evaluation(tmp_path, dataset, SEGMENTATION)))
