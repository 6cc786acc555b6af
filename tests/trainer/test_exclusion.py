"""Pairs whose captions hold certain words are no part of the data."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from shard_world import config, numbers, sample, write_shard, write_shards

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.core.identity import identity
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.data.shards import exclusion
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.spec.checks import check_data
from ablative.trainer.clip.spec.config import DataConfig, ScheduleConfig

TAGS = ("[PERSON]", "<PERSON>")
SCHEDULE = ScheduleConfig(name="test", steps=1, batch_size=2)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def tagged(number: int) -> dict[str, bytes]:
    """A sample whose caption names a person in one of two ways, or none, in turn."""
    tag = ("", " with [PERSON]", "", " by <PERSON>")[number % 4]
    return {**sample(number, caps=["", f"thing{tag}"]), "txt": f"caption {number}{tag}".encode()}


def write_tagged(folder: Path) -> Path:
    for shard in range(3):
        write_shard(folder / f"{shard}.tar", [tagged(20 * shard + i) for i in range(20)])
    return folder


def kept_at(folder: Path, home: Home) -> list[int]:
    """What another process finds."""
    return numbers(ShardPairs(config(folder, exclude=TAGS), home))


@pytest.mark.parametrize("caption", ["txt", "json.caps"])
def test_pairs_with_a_tag_are_no_pairs(tmp_path: Path, home: Home, caption: str) -> None:
    folder = write_tagged(tmp_path / "s")
    pairs = ShardPairs(config(folder, exclude=TAGS, caption=caption), home)
    assert sorted(numbers(pairs)) == list(range(0, 60, 2))
    assert (len(pairs), pairs.left_out, pairs.shard_sizes.tolist()) == (30, 30, [10, 10, 10])
    assert sorted(pairs.order(0, 0)[np.arange(30)]) == list(range(30))
    one = ShardPairs(config(folder, exclude=TAGS[:1], caption=caption), home)
    assert sorted(numbers(one)) == [i for i in range(60) if i % 4 != 1]
    # Letter case counts, and the fingerprint is that of the shards.
    other = ShardPairs(config(folder, exclude=("[person]",), caption=caption), home)
    assert (len(other), other.fingerprint) == (60, pairs.fingerprint)


def test_a_subset_is_drawn_from_what_is_left(tmp_path: Path, home: Home) -> None:
    folder = write_tagged(tmp_path / "s")
    small, large = (set(numbers(ShardPairs(config(folder, exclude=TAGS, pairs=n), home))) for n in (5, 20))
    assert len(small) == 5 and small < large < set(range(0, 60, 2))
    assert len(ShardPairs(config(folder, exclude=TAGS, pairs=30), home)) == 30
    for function in (ShardPairs, fingerprint):
        with pytest.raises(ConfigError, match="pairs=31, but the shards hold 60 samples, of which exclude leaves 30"):
            function(config(folder, exclude=TAGS, pairs=31), home)


def test_nothing_is_left(tmp_path: Path, home: Home) -> None:
    folder = write_shards(tmp_path / "s")
    for function in (ShardPairs, fingerprint):
        with pytest.raises(ConfigError, match=r"data 'test': exclude leaves none of 10 samples.* 'capt' or 'x'"):
            function(config(folder, exclude=("x", "capt")), home)


def test_captions_are_read_once(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tagged(tmp_path / "s")
    reads: list[int] = []
    real = exclusion.first_caption

    def counting(files: ShardFiles, i: int, caption: str) -> str:
        reads.append(i)
        return real(files, i, caption)

    monkeypatch.setattr(exclusion, "first_caption", counting)
    fingerprint(config(folder, exclude=TAGS), home)
    found = kept_at(folder, home)
    assert sorted(reads) == list(range(60))
    # The order of the words and what is drawn later do not matter; the caption does.
    ShardPairs(config(folder, exclude=TAGS[::-1], pairs=3), home)
    assert len(reads) == 60
    ShardPairs(config(folder, exclude=TAGS, caption="json.caps"), home)
    assert len(reads) == 120
    for path in (home.cache / "pairs").glob("*.npy"):
        path.write_bytes(path.read_bytes()[:-2])
    assert kept_at(folder, home) == found
    assert len(reads) == 180


def test_processes_find_the_same_at_once(tmp_path: Path, home: Home) -> None:
    folder = write_tagged(tmp_path / "s")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(kept_at, [(folder, home)] * 2)
    assert found[0] == found[1] == kept_at(folder, home)


def test_a_damaged_caption_is_broken_and_a_disk_that_fails_is_an_error(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [tagged(i) for i in range(4)]
    samples[0]["txt"] = b"\xff [PERSON]"
    path = write_shard(tmp_path / "a.tar", samples)
    pairs = ShardPairs(config(path, exclude=TAGS), home)
    assert numbers(pairs) == [0, 2]
    assert pairs.views(np.array([0]), 8, None).broken[0][0] == 0

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    fresh = Home(tmp_path / "fresh")
    fingerprint(config(path), fresh)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fail)
        with pytest.raises(DataError, match="Input/output error"):
            ShardPairs(config(path, exclude=TAGS), fresh)
    assert numbers(ShardPairs(config(path, exclude=TAGS), fresh)) == [0, 2]


def test_impossible_exclusions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.exclude: '<PERSON>' cannot be left out of the procedural"):
        check_data(DataConfig(name="shapes", kind="shapes", pairs=10, exclude=("<PERSON>",)), SCHEDULE)
    with pytest.raises(ConfigError, match=r"data\.exclude: '' is in every caption"):
        check_data(config(tmp_path, exclude=("",)), SCHEDULE)


def test_ids_given_before_stay(tmp_path: Path) -> None:
    assert "exclude" not in identity(config(tmp_path))
    assert identity(config(tmp_path, exclude=TAGS))["exclude"] == list(TAGS)
