"""What billions of pairs would take, on fewer: nothing grows with the samples that need not."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from shard_world import config, encoded, plain, sample, write_shard

from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.images.image_list import HASH, ImageList, write_list
from ablative.trainer.clip.data.shards import exclusion, selection
from ablative.trainer.clip.data.shards.exclusion import kept_pairs
from ablative.trainer.clip.data.shards.image_hashes import ListedImages
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shards import ShardPairs


@pytest.mark.parametrize("count", [1, 7, 40, 999, 1000])
def test_a_subset_is_the_beginning_of_the_whole_shuffle(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK", 64)
    for number in (3, streams.stream("subset", 0)):
        chosen = streams.keys(number, np.arange(1000)) <= np.uint64(streams.last_key(number, 1000, count))
        assert set(np.flatnonzero(chosen)) == set(streams.permutation(number, 1000)[:count])


def test_choosing_a_subset_takes_no_memory_for_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million of a million: the whole shuffle is 24 MB of keys and numbers, the half alone 4 MB."""
    monkeypatch.setattr(streams, "CHUNK", 2**14)
    tracemalloc.start()
    assert streams.last_key(1, 10**6, 500_000) > 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 10**6


SIZES = (7, 30, 1, 12, 9, 41)


def write_tagged(folder: Path) -> str:
    """100 samples in shards of several sizes; a third has a tag, and one shard nothing else."""
    first = 0
    for shard, size in enumerate(SIZES):
        numbers = range(first, first + size)
        samples = [sample(i) | {"txt": f"{i}{' tag' if shard == 3 or i % 3 == 0 else ''}".encode()} for i in numbers]
        write_shard(folder / f"{shard}.tar", samples, first=first)
        first += size
    return str(folder)


@pytest.mark.parametrize("kept_from", [10, 10**6])
def test_pairs_found_shard_by_shard_are_those_of_the_whole_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_from: int
) -> None:
    monkeypatch.setattr(exclusion, "_RUN", 20)
    monkeypatch.setattr(selection, "_KEPT_FROM", kept_from)
    monkeypatch.setattr(selection, "_LOOKED_UP", 2)
    home, folder = Home(tmp_path / "home"), write_tagged(tmp_path / "s")
    files = ShardFiles([tmp_path / "s" / f"{shard}.tar" for shard in range(len(SIZES))], home)
    tagged = np.array(["tag" in files.read_text(i) for i in range(len(files))])
    left = np.flatnonzero(~tagged)
    for count in (0, 1, 20, len(left)):
        for _ in range(2):  # the second time from the cache
            pairs = ShardPairs(config(folder, exclude=("tag",), pairs=count, seed=3), home)
            order = streams.permutation(streams.stream("subset", 3), len(left))
            expected = left[np.sort(order[: count or None])]
            assert [int(pairs.caption(i)) for i in range(len(pairs))] == [int(files.read_text(i)) for i in expected]
            ends = np.cumsum(files.sizes)
            by_shard = np.bincount(np.searchsorted(ends, expected, side="right"), minlength=len(SIZES))
            assert pairs.shard_sizes.tolist() == by_shard.tolist()
            again = pickle.loads(pickle.dumps(pairs))
            assert [again.name(i) for i in range(len(again))] == [pairs.name(i) for i in range(len(pairs))]


def test_bits_of_excluded_pairs_are_the_file_that_numpy_would_write(tmp_path: Path) -> None:
    home, folder = Home(tmp_path / "home"), write_tagged(tmp_path / "s")
    pairs = ShardPairs(config(folder, exclude=("tag",)), home)
    (cached,) = (home.cache / "pairs").glob("*.npy")
    bits = np.unpackbits(np.load(cached), count=100)
    assert bits.sum() == len(pairs)
    np.save(tmp_path / "again.npy", np.packbits(bits))
    assert (tmp_path / "again.npy").read_bytes() == cached.read_bytes()


def test_a_list_of_images_is_applied_shard_by_shard_as_to_all_pairs_at_once() -> None:
    generator = np.random.default_rng(0)
    hashes = np.array([hashlib.sha256(bytes([i])).digest()[:16] for i in generator.integers(0, 60, 400)], HASH)
    hashes[::50] = b""
    among = generator.random(400) < 0.8
    images = np.unique(hashes)
    listed = ImageList(images[1:10], images[5:40], "")
    expected, seen = among.copy(), set()
    for i in np.flatnonzero(among):
        if hashes[i] in listed.whole or (hashes[i] in listed.rest and hashes[i] in seen):
            expected[i] = False
        seen.add(hashes[i])
    stays, ends = ListedImages(listed), [0, 1, 1, 130, 390, 400]
    parts = [stays.leave_in(hashes[a:b], among[a:b]) for a, b in itertools.pairwise(ends)]
    assert np.concatenate(parts).tolist() == expected.tolist()


def test_what_a_loader_process_gets_does_not_grow_with_the_pairs(tmp_path: Path) -> None:
    home, given = Home(tmp_path / "home"), []
    write_list(tmp_path / "list.txt", [(hashlib.sha256(encoded(plain(1))).hexdigest()[:32], ["set"])], [])
    for name, each in (("few", 20), ("many", 1000)):
        write_shard(tmp_path / name / "0.tar", [sample(i) for i in range(each)])
        pairs = ShardPairs(config(tmp_path / name, exclude_images=str(tmp_path / "list.txt"), pairs=each // 2), home)
        assert len(pairs) == each // 2
        given.append(len(pickle.dumps(pairs)))
    assert given[1] < given[0] + 100


def test_bits_that_vanish_are_named(tmp_path: Path) -> None:
    home, folder = Home(tmp_path / "home"), write_tagged(tmp_path / "s")
    files = ShardFiles(sorted((tmp_path / "s").iterdir()), home)
    kept = kept_pairs(files, config(folder, exclude=("tag",)), home)
    assert kept is not None
    kept.path.write_bytes(kept.path.read_bytes()[:-4])
    with pytest.raises(StoreError, match=r"\.npy was cut off while it was in use"):
        kept.of(5)
    kept.path.unlink()
    with pytest.raises(StoreError, match=r"No such file or directory; it was there when these data were opened"):
        kept.of(0)
