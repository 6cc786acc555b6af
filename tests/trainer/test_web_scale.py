"""What billions of pairs would take, on fewer: nothing grows with the samples that need not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ablative.trainer.clip.data.images import streams


@pytest.mark.parametrize("count", [1, 7, 40, 999, 1000])
def test_a_subset_is_the_beginning_of_the_whole_shuffle(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK", 64)
    for number in (3, streams.stream("subset", 0)):
        expected = np.sort(streams.permutation(number, 1000)[:count])
        assert np.array_equal(streams.first_of_permutation(number, 1000, count), expected)


def test_choosing_a_subset_takes_the_memory_of_the_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 of a million: the whole shuffle is 24 MB of keys and numbers."""
    monkeypatch.setattr(streams, "CHUNK", 2**14)
    tracemalloc.start()
    assert len(streams.first_of_permutation(1, 10**6, 1000)) == 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 10**6
