"""Shards: read by number, indexed once, fingerprinted by content; what is broken is named."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from shard_world import config, encoded, index_at, numbers, plain, sample, write_shard, write_shards

from ablative.study.core.errors import AblateError, ConfigError, DataError, StoreError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.images.crops import Crops
from ablative.trainer.clip.data.pairs.pairs import Pairs
from ablative.trainer.clip.data.shards import epoch_order as order_module
from ablative.trainer.clip.data.shards.epoch_order import ShardOrder
from ablative.trainer.clip.data.shards.shard_paths import expand_braces, find_shards
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.data.shards.tar_members import members
from ablative.trainer.clip.data.sources import open_pairs
from ablative.trainer.clip.spec.config import DatasetConfig


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


# Agreement with webdataset and tarfile.


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # theirs, of the file that they leave open
def test_reads_what_webdataset_writes(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "wds-000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(6):
            writer.write({"__key__": f"some/folder/{i:04d}", "png": plain(i), "txt": f"caption {i}", "json": {"n": i}})
    pairs = ShardPairs(config(path), home)
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False).decode("rgb8"))
    assert len(pairs) == len(theirs) == 6
    for i, their in enumerate(theirs):
        np.testing.assert_array_equal(pairs.image(i), their["png"])
        assert pairs.caption(i) == their["txt"]
        assert pairs.json(i) == their["json"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a", "folder/" * 12 + "n" * 90, "x" * 95, "grün/日本"])
def test_members_as_tarfile_sees_them(tmp_path: Path, format: int, name: str) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(0), sample(1)], names=[name, "b"], format=format)
    with tarfile.open(path) as tar:
        expected = [(member.name, member.offset_data, member.size) for member in tar if member.isfile()]
    assert list(members(path)) == expected


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length(tmp_path: Path, format: int) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(0), sample(1)], names=["x" * 700, "b"], format=format)
    assert [len(name) for name, _, _ in members(path)] == [704, 704, 705, 5, 5, 6]


def test_skips_folders_links_and_hidden_files(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "a.tar"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_bytes(encoded(plain(3)))
    (tmp_path / "in" / "x.txt").write_text("three")
    (tmp_path / "in" / "._x.png").write_bytes(b"of a Mac")
    (tmp_path / "in" / "link.png").symlink_to("x.png")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "in", "./in")
    pairs = ShardPairs(config(path), home)
    assert len(pairs) == 1
    assert pairs.caption(0) == "three"


# What a number means.


def test_is_pairs_and_reads_any_order(tmp_path: Path, home: Home) -> None:
    pairs: Pairs = open_pairs(config(write_shards(tmp_path / "s", shards=3)), 8, home)
    assert isinstance(pairs, ShardPairs)
    assert sorted(numbers(pairs)) == list(range(15))
    for i in (14, 0, 7, 0):
        number = pairs.json(i)["number"]
        np.testing.assert_array_equal(pairs.image(i), plain(number))
        assert pairs.caption(i) == f"caption {number}"
    assert pairs.shard_sizes.tolist() == [5, 5, 5]


@pytest.mark.parametrize("i", [-1, 10])
def test_no_such_number(tmp_path: Path, home: Home, i: int) -> None:
    with pytest.raises(IndexError, match=f"pair {i} of 10"):
        ShardPairs(config(write_shards(tmp_path / "s")), home).image(i)


def test_other_files_of_a_sample(tmp_path: Path, home: Home) -> None:
    with_mask = {**sample(0), "seg.png": b"mask"}
    path = write_shard(tmp_path / "a.tar", [with_mask, sample(1)])
    pairs = ShardPairs(config(path), home)
    assert pairs.extra(0, ".seg.png") == b"mask"
    assert pairs.extra(1, ".seg.png") is None
    assert pairs.extra(1, ".mask.png") is None


def test_a_key_that_comes_again_is_another_sample(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(0), sample(1), sample(2)], names=["x", "y", "x"])
    assert numbers(ShardPairs(config(path), home)) == [0, 1, 2]


def test_captions_from_json(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(0, caps=["", " two  words ", "b"]), sample(1, caps=[])])
    assert ShardPairs(config(path, caption="json.name"), home).caption(1) == "thing 1"
    listed = ShardPairs(config(path, caption="json.caps"), home)
    assert [listed.caption(0), listed.caption(1)] == ["two  words", ""]


def test_subsets_are_fixed_and_nested(tmp_path: Path, home: Home) -> None:
    folder = write_shards(tmp_path / "s", shards=4, each=10)
    small, large = (set(numbers(ShardPairs(config(folder, pairs=n), home))) for n in (7, 20))
    assert small < large
    assert (len(small), len(large)) == (7, 20)
    other = ShardPairs(config(folder, pairs=20, seed=1), home)
    assert set(numbers(other)) != large
    assert other.shard_sizes.sum() == 20
    assert len(ShardPairs(config(folder, pairs=40), home)) == 40


def test_more_pairs_than_there_are(tmp_path: Path, home: Home) -> None:
    wanted = config(write_shards(tmp_path / "s"), pairs=11)
    for function in (ShardPairs, fingerprint):
        with pytest.raises(ConfigError, match=r"data 'test': data.pairs=11, but the shards hold 10 samples"):
            function(wanted, home)


def test_epochs_are_permutations_within_groups_of_shards(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = ShardPairs(config(write_shards(tmp_path / "s", shards=6, each=10)), home)
    places = np.arange(60)
    whole = pairs.order(0, 0)[places]
    assert sorted(whole) == list(range(60))
    assert pairs.order(0, 0)[places].tolist() == whole.tolist()
    assert pairs.order(0, 1)[places].tolist() != whole.tolist() != pairs.order(1, 0)[places].tolist()
    assert len(set(whole[:20] // 10)) == 6  # smaller than a window: shuffled altogether
    monkeypatch.setattr(order_module, "WINDOW", 20)
    order = pairs.order(0, 0)[places]
    assert sorted(order) == list(range(60))
    assert [len(set(order[start : start + 20] // 10)) for start in (0, 20, 40)] == [2, 2, 2]


@pytest.mark.parametrize("window", [1, 25, 10_000])
def test_an_order_is_the_same_worked_out_whole_or_in_part(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the definition, over shards some of which are empty: by group, then by random key."""
    monkeypatch.setattr(order_module, "WINDOW", window)
    sizes = np.array([7, 0, 30, 1, 12, 0, 5, 40])
    shards = streams.permutation(streams.stream("shards", 3, 1), len(sizes))
    group = np.empty(len(sizes), np.int64)
    group[shards] = (np.cumsum(sizes[shards]) - sizes[shards]) // window
    keys = streams.keys(streams.stream("pairs", 3, 1), np.arange(sizes.sum()))
    expected = np.lexsort((keys, np.repeat(group, sizes)))
    order = ShardOrder(sizes, 3, 1)
    assert order[np.arange(len(expected))].tolist() == expected.tolist()
    places = np.array([90, 3, 44, 3, 60])
    assert order[places].tolist() == expected[places].tolist()


# Views.


def test_views_are_central_squares(tmp_path: Path, home: Home) -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    path = write_shard(tmp_path / "a.tar", [{"png": encoded(wide), "txt": b"wide"}])
    views = ShardPairs(config(path), home).views(np.array([0, 0]), 2, None)
    assert views.images.shape == (2, 2, 2, 3)
    assert views.captions == ["wide", "wide"]
    # All of the picture would be less than 110 at its sides; bicubic weights reach a little over the edge.
    assert views.images.min() > 180


def test_crops_are_a_function_of_their_key(tmp_path: Path, home: Home) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    path = write_shard(tmp_path / "a.tar", [{"png": encoded(noise), "txt": b"noise"}])
    pairs = ShardPairs(config(path), home)
    both = pairs.views(np.array([0, 0]), 16, Crops(np.array([1, 2], np.uint64), 0.2)).images
    alone = pairs.views(np.array([0]), 16, Crops(np.array([2], np.uint64), 0.2)).images
    assert (both[0] != both[1]).any()
    np.testing.assert_array_equal(both[1], alone[0])


def test_the_next_readable_sample_stands_in(tmp_path: Path, home: Home) -> None:
    broken = {**sample(1), "png": b"no image"}
    silent = {**sample(2), "txt": b" \n"}
    path = write_shard(tmp_path / "a.tar", [sample(0), broken, silent, sample(3), {**sample(4), "png": b""}])
    views = ShardPairs(config(path), home).views(np.array([3, 1, 4]), 8, None)
    assert views.captions == ["caption 3", "caption 3", "caption 0"]
    np.testing.assert_array_equal(views.images[1], plain(3))
    assert [i for i, _ in views.broken] == [1, 2, 4]
    assert "sample '000001': no readable image" in views.broken[0][1]
    assert "sample '000002' has no caption (txt)" in views.broken[1][1]


def test_no_readable_sample_at_all(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "a.tar", [{**sample(0), "png": b"x"}])
    with pytest.raises(DataError, match=r"none of 1 samples can be read.*000000"):
        ShardPairs(config(path), home).views(np.array([0]), 8, None)


# Pictures.


def one(tmp_path: Path, home: Home, suffix: str, content: bytes) -> np.ndarray:
    path = write_shard(tmp_path / "one.tar", [{suffix: content, "txt": b"one"}])
    return ShardPairs(config(path), home).image(0)


@pytest.mark.parametrize(("suffix", "format"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP"), ("PNG", "PNG")])
def test_formats(tmp_path: Path, home: Home, suffix: str, format: str) -> None:
    image = one(tmp_path, home, suffix, encoded(plain(100), format))
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image, plain(100), atol=3)


def test_transparency_is_white(tmp_path: Path, home: Home) -> None:
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    image = one(tmp_path, home, "png", encoded(pixels))
    assert image[0].tolist() == [[255, 255, 255], [10, 20, 30], [204, 204, 204]]


def test_a_palettes_transparency_is_white(tmp_path: Path, home: Home) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([9, 9, 9, 50, 60, 70])
    picture.putdata([0, 1])
    picture.save(tmp_path / "p.png", transparency=0)
    image = one(tmp_path, home, "png", (tmp_path / "p.png").read_bytes())
    assert image[0].tolist() == [[255, 255, 255], [50, 60, 70]]


def test_greys_of_16_bits_are_scaled(tmp_path: Path, home: Home) -> None:
    image = one(tmp_path, home, "png", encoded(np.array([[0, 0x8000, 0xFFFF]], np.uint16)))
    assert image[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, ["123", "456"]),
        (2, ["321", "654"]),
        (3, ["654", "321"]),
        (4, ["456", "123"]),
        (5, ["14", "25", "36"]),
        (6, ["41", "52", "63"]),
        (7, ["63", "52", "41"]),
        (8, ["36", "25", "14"]),
    ],
)
def test_photographs_are_turned_upright(tmp_path: Path, home: Home, orientation: int, upright: list[str]) -> None:
    """The tag says where row 0 and column 0 of the stored pixels belong: 6 is row 0 right, column 0 top (EXIF 2.3)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.repeat(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[..., None] * 40, 3, axis=2)
    image = one(tmp_path, home, "png", encoded(stored, exif=exif))
    assert [[f"{value // 40}" for value in row] for row in image[..., 0]] == [list(row) for row in upright]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"png": b"<html>not found</html>"}, "no readable image"),
        ({"jpg": encoded(np.zeros((64, 64, 3), np.uint8), "JPEG")[:400]}, "no readable image"),
        ({"png": encoded(np.zeros((64, 64, 3), np.uint8))[:60]}, "no readable image"),
        ({"mp3": b"x"}, r"has no image \(.jpg, .jpeg, .*\)"),
    ],
)
def test_broken_images_are_named(tmp_path: Path, home: Home, files: dict[str, bytes], message: str) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(0), {**files, "txt": b"t"}])
    with pytest.raises(DataError, match=rf"{path}: sample '000001'.*{message}"):
        ShardPairs(config(path), home).image(1)


@pytest.mark.parametrize(("content", "message"), [(b"{", "is no JSON"), (b"[1]", "holds a list, expected an object")])
def test_broken_json_is_named(tmp_path: Path, home: Home, content: bytes, message: str) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(0), {**sample(1), "json": content}])
    pairs = ShardPairs(config(path, caption="json.name"), home)
    assert pairs.caption(1) == ""
    with pytest.raises(DataError, match=f"sample '000001': .json {message}"):
        pairs.required_caption(1)


# Fingerprints and the cache.


def test_fingerprints_cover_content_not_names_or_compression(tmp_path: Path, home: Home) -> None:
    first = fingerprint(config(write_shards(tmp_path / "a")), home)
    assert len(first) == 12
    assert int(first, 16) >= 0
    packed = write_shards(tmp_path / "b", suffix=".tar.gz")
    (packed / "00000.tar.gz").rename(packed / "zz.tar.gz")
    assert fingerprint(config(packed), home) == first
    there, moved = (ShardPairs(config(tmp_path / name), home) for name in "ab")
    assert numbers(there) == numbers(moved)
    assert there.fingerprint == first
    write_shard(packed / "zz.tar.gz", [sample(number) for number in (0, 1, 2, 3, 99)])
    assert fingerprint(config(packed), home) != first


def test_fingerprints_of_data_sets(tmp_path: Path, home: Home) -> None:
    train, test = write_shards(tmp_path / "train"), write_shards(tmp_path / "test", shards=1)

    def of(**fields: str) -> str:
        return fingerprint(DatasetConfig(name="d", kind="shards", **fields), home)

    both = of(path=str(train), test_path=str(test), task="number")
    assert both != of(path=str(test), test_path=str(train), task="number")
    assert of(test_path=str(test)) == fingerprint(config(test), home) != both
    unnamed = of(test_path=str(test))
    (test / "classes.json").write_text('["a", "b"]')
    assert of(test_path=str(test)) != unnamed


def test_indexed_once(tmp_path: Path, home: Home) -> None:
    folder = write_shards(tmp_path / "s", suffix=".tar.gz")
    fingerprint(config(folder), home)
    before = {path: path.stat().st_mtime_ns for path in (home.cache / "shards").iterdir() if path.suffix != ".lock"}
    assert sorted(path.suffix for path in before) == [".json", ".npz", ".npz", ".tar", ".tar"]
    numbers(ShardPairs(config(folder), home))
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before


@pytest.mark.parametrize("suffix", [".npz", ".json", ".tar"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, home: Home, suffix: str, damage: str) -> None:
    data = config(write_shards(tmp_path / "s", suffix=".tar.gz"))
    expected = numbers(ShardPairs(data, home))
    for path in (home.cache / "shards").glob(f"*{suffix}"):
        path.write_bytes(path.read_bytes()[:20]) if damage == "cut" else path.unlink()
    assert numbers(ShardPairs(data, home)) == expected


def test_what_a_killed_indexing_left_is_taken_away(tmp_path: Path, home: Home) -> None:
    data = config(write_shards(tmp_path / "s", shards=1, suffix=".tar.gz"))
    fingerprint(data, home)
    (copy,) = (home.cache / "shards").glob("*.tar")
    left = copy.with_name(f".{copy.name}.abcdef")
    copy.rename(left)
    assert len(ShardPairs(data, home)) == 5
    assert copy.exists()
    assert not left.exists()


def test_indexing_continues_after_an_error(tmp_path: Path, home: Home) -> None:
    folder = write_shards(tmp_path / "s")
    (folder / "00001.tar").write_bytes(b"soon")
    with pytest.raises(DataError, match=r"00001\.tar"):
        fingerprint(config(folder), home)
    (index,) = (home.cache / "shards").glob("*.npz")
    before = index.stat().st_mtime_ns
    write_shards(tmp_path / "t")
    shutil.copy(tmp_path / "t" / "00001.tar", folder / "00001.tar")
    assert fingerprint(config(folder), home) == fingerprint(config(tmp_path / "t"), home)
    assert index.stat().st_mtime_ns == before


def test_processes_that_index_at_once(tmp_path: Path, home: Home) -> None:
    folder = write_shards(tmp_path / "s", shards=4, each=60, suffix=".tar.gz")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        results = pool.starmap(index_at, [(folder, home, time.time() + 1.5)] * 8)
    assert len(set(results)) == 1
    kinds = sorted(path.suffix for path in (home.cache / "shards").iterdir() if path.suffix != ".lock")
    assert kinds == [".json", *[".npz"] * 4, *[".tar"] * 4]  # and no temporary files


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_indexed_where_the_file_system_has_no_locks(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    signal.alarm(60)  # it must not wait for a lock that no process holds
    try:
        assert numbers(ShardPairs(config(write_shards(tmp_path / "s")), home))
    finally:
        signal.alarm(0)


def test_copies_in_other_processes_read_on(tmp_path: Path, home: Home) -> None:
    pairs = ShardPairs(config(write_shards(tmp_path / "s")), home)
    expected = numbers(pairs)
    assert numbers(pickle.loads(pickle.dumps(pairs))) == expected
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, json.dumps(numbers(pairs)).encode())
        os._exit(0)
    assert numbers(pairs) == expected  # both read at once through the same handles
    os.waitpid(child, 0)
    assert json.loads(os.read(reader, 1000)) == expected
    os.close(reader)
    os.close(writer)


def test_few_files_stay_open(tmp_path: Path, home: Home) -> None:
    pairs = ShardPairs(config(write_shards(tmp_path / "s", shards=80, each=1)), home)
    before = len(os.listdir("/proc/self/fd"))
    assert sorted(numbers(pairs)) == list(range(80))
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    del pairs
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_shard_that_changes_in_use(tmp_path: Path, home: Home) -> None:
    folder = write_shards(tmp_path / "s", shards=1)
    pairs = ShardPairs(config(folder), home)
    pairs.image(0)
    with (folder / "00000.tar").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"00000.tar was cut off while it was in use"):
        pairs.image(4)


def test_imports_no_torch() -> None:
    names = ("fingerprints", "shards.shards", "cli")
    modules = ", ".join(f"ablative.trainer.clip.data.{name}" for name in names)
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Paths.


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """$ABLATE_DATA at `data`, the current folder at `here`."""
    (tmp_path / "here").mkdir()
    write_shards(tmp_path / "data" / "cc", shards=3)
    monkeypatch.setenv("ABLATE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path


@pytest.mark.parametrize(
    "pattern", ["cc", "cc/*.tar", "cc/{00000..00002}.tar", "cc/0000{0,1,2}.tar", "**/*.tar", "../data/cc", "cc/"]
)
def test_patterns(places: Path, pattern: str) -> None:
    found = find_shards(pattern)
    assert [path.name for path in found] == ["00000.tar", "00001.tar", "00002.tar"]
    assert all(path.is_absolute() for path in found)


def test_relative_paths_start_at_the_variable_then_here(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(places / "here" / "mine")
    write_shards(places / "here" / "cc", shards=1)
    assert find_shards("mine")[0].parent.parent.name == "here"
    assert len(find_shards("cc")) == 3
    monkeypatch.delenv("ABLATE_DATA")
    assert len(find_shards("cc")) == 1


def test_braces() -> None:
    assert expand_braces("a{8..10}b{x,y}") == [f"a{n}b{c}" for n in (8, 9, 10) for c in "xy"]
    assert expand_braces("{09..11}") == ["09", "10", "11"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", r"no path given; expected shards \(.tar, .tar.gz, .tgz\)"),
        ("c", r"no shards match .*data/c or .*here/c: unknown path 'c'; did you mean 'cc'\?"),
        ("cc/{00000..00004}.tar", r".*cc/00003.tar does not exist \(2 of the 5"),
        ("s3://bucket/a.tar", ".* is no local path"),
        ("pipe:curl x", ".* is no local path"),
    ],
)
def test_paths_that_are_not_there(places: Path, home: Home, pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=f"data 'test': {message}"):
        ShardPairs(config(pattern), home)


def test_the_variable_is_missed_where_it_would_help(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABLATE_DATA")
    with pytest.raises(DataError, match=r"\$ABLATE_DATA, where relative paths start, is not set"):
        find_shards("cc")


def test_a_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no shards .* in .*; `ablate data pack` makes some"):
        find_shards(str(tmp_path))


# Damaged shards.


def damaged(tmp_path: Path, kind: str) -> Path:
    if kind.startswith("gz"):
        path = write_shard(tmp_path / "a.tar.gz", [sample(i) for i in range(200)])
        content = path.read_bytes()
    else:
        path = write_shard(tmp_path / "a.tar", [sample(i) for i in range(5)])
        content = path.read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    flipped = bytearray(content)
    flipped[last.offset if kind == "bit" else len(content) // 2] ^= 0xFF
    path.write_bytes(
        {
            "empty": b"",
            "text": b"<html>404</html>" * 100,
            "content": content[: last.offset_data + 1],
            "header": content[: last.offset + 100],
            "end": content[: last.offset_data + 512],
            "bit": bytes(flipped),
            "gz cut": content[: len(content) // 2],
            "gz bit": bytes(flipped),
            "gz text": b"\x1f\x8bno gzip",
        }[kind]
    )
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "0 bytes are no tar archive"),
        ("text", "not a tar archive; expected a WebDataset .tar or .tar.gz"),
        ("content", "truncated, .* bytes of 000004.json are missing"),
        ("header", "truncated after .* bytes"),
        ("end", "truncated after .* bytes, before the end of the archive"),
        ("bit", "damaged at byte"),
        ("gz cut", "truncated or damaged gzip"),
        ("gz bit", "truncated or damaged gzip"),
        ("gz text", "truncated or damaged gzip"),
    ],
)
def test_damaged_shards_are_named(tmp_path: Path, home: Home, kind: str, message: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(DataError, match=f"shard {path}: {message}"):
        ShardPairs(config(path), home)
    left = [entry.name for entry in (home.cache / "shards").iterdir() if entry.suffix not in (".lock",)]
    assert [name for name in left if name.startswith(".") or name.endswith(".npz")] == []


def test_no_images(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "a.tar", [{"txt": b"t", "seg.png": b"x"}])
    with pytest.raises(DataError, match=r"a.tar: no images \(expected .jpg, .* .ppm; found .seg.png, .txt\)"):
        ShardPairs(config(path), home)


def test_empty_shards_count_nothing(
    tmp_path: Path, home: Home, call_ablate: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shards(tmp_path / "s", shards=2)
    before = ShardPairs(config(folder), home)
    write_shard(folder / "00003.tar", [])
    write_shard(folder / "00004.tar.gz", [])
    capsys.readouterr()
    for _ in range(2):  # made, then read from the cache
        pairs = ShardPairs(config(folder), home)
        assert (numbers(pairs), pairs.fingerprint) == (numbers(before), before.fingerprint)
    assert sorted(pairs.order(0, 0)[np.arange(len(pairs))].tolist()) == list(range(10))
    note = "data 'test': 2 of 4 shards are empty, with 0 samples: 00003.tar, 00004.tar.gz\n"
    assert capsys.readouterr().err == note
    shown = call_ablate(home.root, "data", "check", str(folder)).splitlines()
    assert shown[:2] == [f"4 shards in {folder}, 2 of them empty: 00003.tar, 00004.tar.gz", "samples      10"]
    with pytest.raises(DataError, match=r"data 'test': all shards are empty, without a sample: .*00003.tar"):
        ShardPairs(config(folder / "00003.tar"), home)


def test_keys_with_dots(tmp_path: Path, home: Home) -> None:
    samples = [{"png": b"x"}] * 100
    path = write_shard(tmp_path / "a.tar", samples, names=[f"img.{i}" for i in range(100)])
    with pytest.raises(DataError, match="keys must not hold dots"):
        ShardPairs(config(path), home)


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("json.nam", r"unknown JSON key 'nam'; did you mean 'name'\? \(allowed: name\)"),
        ("json.number", r"unknown JSON key 'number'"),  # it is there, but is no text
        ("text", r"caption 'text'; expected txt, or json.<key>"),
    ],
)
def test_captions_that_are_not_there(tmp_path: Path, home: Home, caption: str, message: str) -> None:
    data = config(write_shards(tmp_path / "s"), caption=caption)
    for function in (ShardPairs, fingerprint):
        with pytest.raises(ConfigError, match=message):
            function(data, home)


def test_no_txt_but_json(tmp_path: Path, home: Home) -> None:
    files = sample(0)
    del files["txt"]
    path = write_shard(tmp_path / "a.tar", [files])
    with pytest.raises(ConfigError, match=r"the samples have no .txt; the JSON has json.name"):
        ShardPairs(config(path), home)


# A cache that cannot be written.


def test_a_home_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the shards' cache .*\$ABLATE_HOME"):
        ShardPairs(config(write_shards(tmp_path / "s")), Home(tmp_path / "file"))


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, home: Home) -> None:
    """By a limit on the size of files, which a process can set for itself alone."""
    folder = write_shards(tmp_path / "s", each=200, suffix=".tar.gz")
    code = f"""
import resource, signal
from pathlib import Path
from shard_world import config
from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.fingerprints import fingerprint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fingerprint(config({str(folder)!r}), Home(Path({str(home.root)!r})))
except StoreError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "cannot write the shards' cache" in done.stdout
    assert "GiB free" in done.stdout
    assert [entry for entry in (home.cache / "shards").iterdir() if entry.suffix != ".lock"] == []
    assert len(fingerprint(config(folder), home)) == 12


def test_errors_are_of_the_one_family() -> None:
    assert all(issubclass(kind, AblateError) for kind in (ConfigError, DataError, StoreError))
