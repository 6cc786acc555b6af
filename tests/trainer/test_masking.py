"""Which elements are hidden, by chance and by similarity, and putting visible ones back."""

import pytest
import torch

from ablative.trainer.clip.models.sizes import keep_count
from ablative.trainer.clip.models.splits import MaskSplit, keep_counts, restore, take
from ablative.trainer.clip.objectives.masking import filip_similarity, pooled_similarity, split_image, split_text

LENGTHS = torch.tensor([1, 2, 5, 8, 12])
VALID = torch.arange(12) < LENGTHS[:, None]


@pytest.mark.parametrize(
    ("length", "ratio", "kept"), [(196, 0.75, 49), (77, 0.75, 19), (20, 0.75, 5), (10, 0.9, 1), (3, 0.75, 1), (7, 0, 7)]
)
def test_keep_count(length: int, ratio: float, kept: int) -> None:
    assert keep_count(length, ratio) == kept
    assert keep_counts(torch.tensor([length]), ratio).tolist() == [kept]


def test_keep_counts_agree_with_keep_count_everywhere() -> None:
    lengths = torch.arange(1, 600)
    for ratio in (0.1, 0.3, 0.6, 0.75, 0.9):
        assert keep_counts(lengths, ratio).tolist() == [keep_count(n, ratio) for n in range(1, 600)]


def test_image_split_hides_the_highest_scores() -> None:
    split = split_image(torch.tensor([[0.4, 0.1, 0.9, 0.2], [0.0, 0.3, 0.2, 0.1]]), 0.5)
    assert split.visible.tolist() == [[1, 3], [0, 3]]
    assert split.hidden.tolist() == [[0, 2], [2, 1]]


def test_random_image_masks_are_uniform_and_per_sample() -> None:
    split = split_image(torch.rand(4000, 16, generator=torch.Generator().manual_seed(0)), 0.75)
    share = torch.zeros(16).scatter_add(0, split.hidden.flatten(), torch.ones(4000 * 12)) / 4000
    torch.testing.assert_close(share, torch.full((16,), 0.75), atol=0.03, rtol=0)  # 4 deviations: 0.027
    assert len(split.visible.sort(1).values.unique(dim=0)) > 1000  # of 1,820 possible sets


def parts(split: MaskSplit, row: int) -> tuple[set[int], set[int]]:
    """Visible and hidden places of one sample."""
    assert split.visible_valid is not None and split.hidden_valid is not None
    visible = split.visible[row][split.visible_valid[row]].tolist()
    hidden = split.hidden[row][split.hidden_valid[row]].tolist()
    assert len(set(visible)) == len(visible) and len(set(hidden)) == len(hidden)
    return set(visible), set(hidden)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75, 0.95])
def test_text_split_partitions_the_valid_tokens(ratio: float) -> None:
    scores = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    split = split_text(scores, VALID, ratio)
    for row, length in enumerate(LENGTHS.tolist()):
        visible, hidden = parts(split, row)
        assert visible | hidden == set(range(length)) and not visible & hidden
        assert len(visible) == keep_count(length, ratio)
        assert all(scores[row, i] <= scores[row, j] for i in visible for j in hidden)
    assert split.hidden_counts().tolist() == [n - keep_count(n, ratio) for n in LENGTHS.tolist()]


def test_text_split_counting_pads_keeps_a_share_of_everything() -> None:
    """3 of 12 places stay, whatever they hold (M3AE's code); of those only the valid ones count."""
    scores = torch.rand(5, 12, generator=torch.Generator().manual_seed(3))
    split = split_text(scores, VALID, 0.75, include_pads=True)
    kept = scores.argsort(1)[:, :3]
    for row, length in enumerate(LENGTHS.tolist()):
        visible, hidden = parts(split, row)
        assert visible | hidden == set(range(length)) and not visible & hidden
        by_rank = {place for place in kept[row].tolist() if place < length}
        assert visible == (by_rank or {scores[row, :length].argmin().item()})


def test_pooled_similarity_by_hand() -> None:
    elements = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]]])
    torch.testing.assert_close(
        pooled_similarity(elements, torch.tensor([[0.6, 0.8]])), torch.tensor([[0.6, 1.0, -0.8]])
    )


def test_filip_similarity_by_hand() -> None:
    """Each element's best partner, never a padded one."""
    elements = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    others = torch.tensor([[[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]]])
    torch.testing.assert_close(filip_similarity(elements, others), torch.tensor([[1.0, 0.8]]))
    valid = torch.tensor([[False, True, False]])
    torch.testing.assert_close(filip_similarity(elements, others, valid), torch.tensor([[0.0, -1.0]]))


def test_similarities_keep_fp32_under_autocast() -> None:
    """bf16 has 8 bits: neighbouring patches would tie by the dozen."""
    generator = torch.Generator().manual_seed(0)
    elements = torch.nn.functional.normalize(torch.randn(1, 64, 16, generator=generator), dim=-1)
    wide = pooled_similarity(elements, elements[:, 0])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pooled_similarity(elements, elements[:, 0]), wide)


def test_restore_puts_everything_in_its_place() -> None:
    x = torch.arange(2 * 6 * 2, dtype=torch.float32).reshape(2, 6, 2)
    visible, hidden = torch.tensor([[4, 0], [1, 5]]), torch.tensor([[1, 2, 3, 5], [0, 2, 3, 4]])
    full = restore(take(x, visible), torch.tensor([-1.0, -2.0]), MaskSplit(visible, hidden), 6)
    torch.testing.assert_close(take(full, visible), take(x, visible))
    torch.testing.assert_close(take(full, hidden), torch.tensor([-1.0, -2.0]).expand(2, 4, 2))


def test_restore_skips_empty_slots() -> None:
    """A slot without element must not overwrite the place that it happens to name."""
    split = MaskSplit(torch.tensor([[2, 0]]), torch.tensor([[0, 1]]), torch.tensor([[True, False]]))
    full = restore(torch.tensor([[[7.0], [9.0]]]), torch.tensor([-1.0]), split, 3)
    assert full.flatten().tolist() == [-1.0, -1.0, 7.0]
