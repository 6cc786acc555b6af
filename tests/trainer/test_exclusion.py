"""Pairs whose captions hold certain words are no part of the data."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_world import config, encoded, numbers, plain, sample, write_shard, write_shards

from ablative.study.core.errors import AbsentDataError, ConfigError, DataError
from ablative.study.core.identity import identity
from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.data.images.image_list import write_list
from ablative.trainer.clip.data.shards import exclusion, image_hashes
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
    real = exclusion.all_captions

    def counting(files: ShardFiles, i: int, caption: str) -> str:
        reads.append(i)
        return real(files, i, caption)

    monkeypatch.setattr(exclusion, "all_captions", counting)
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
    for changes in ({"kind": "shapes", "pairs": 10, "caption": "json.texts"}, {"caption": "txt"}):
        with pytest.raises(ConfigError, match=r"data\.captions: epoch, but .* has one caption for each image"):
            check_data(config(tmp_path, captions="epoch", **changes), SCHEDULE)


def test_no_caption_that_an_epoch_may_choose_holds_a_word(tmp_path: Path, home: Home) -> None:
    texts = [["a", "<PERSON> b"], ["a", "b"], ["<PERSON>"], ["<PERSON>", "b"]]
    write_shard(tmp_path / "a.tar", [sample(i, texts=own) for i, own in enumerate(texts)])
    given: dict[str, Any] = {"exclude": TAGS, "caption": "json.texts"}
    assert numbers(ShardPairs(config(tmp_path / "a.tar", **given), home)) == [0, 1]
    assert numbers(ShardPairs(config(tmp_path / "a.tar", **given, captions="epoch"), home)) == [1]


def write_repeated(folder: Path, images: tuple[tuple[int, ...], ...] = ((0, 1, 2, 0), (3, 1, 4, 5))) -> Path:
    """Shards of samples numbered through, with these images."""
    number = itertools.count()
    for shard, plains in enumerate(images):
        samples = [{**sample(next(number)), "png": encoded(plain(image))} for image in plains]
        write_shard(folder / f"{shard}.tar", samples)
    return folder


def listing(path: Path, whole: tuple[int, ...] = (), rest: tuple[int, ...] = ()) -> str:
    def digits(image: int) -> str:
        return hashlib.sha256(encoded(plain(image))).hexdigest()[:32]

    write_list(path, [(digits(image), ["imagenet"]) for image in whole], map(digits, rest))
    return str(path)


def test_pairs_with_a_listed_image_are_no_pairs(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_repeated(tmp_path / "s")
    path = listing(tmp_path / "list.txt", whole=(2, 99), rest=(0, 1))
    pairs = ShardPairs(config(folder, exclude_images=path), home)
    kept = numbers(pairs)
    # Of pairs 0 and 3, and of 1 and 5, the first in the order of the data stays: that of the shards' content.
    assert len(kept) == 5 and {4, 6, 7} < set(kept) and len({0, 3} & set(kept)) == len({1, 5} & set(kept)) == 1
    assert f"data 'test': 3 of 8 pairs are left out, whose images {path} names" in capsys.readouterr().err
    assert pairs.fingerprint == fingerprint(config(folder, exclude_images=path), home)
    # Other names of the shards, compressed, elsewhere, in another home: the same samples under the same numbers.
    other = tmp_path / "t"
    other.mkdir()
    (other / "z.tar").write_bytes((folder / "0.tar").read_bytes())
    (other / "a.tar.gz").write_bytes(gzip.compress((folder / "1.tar").read_bytes()))
    assert numbers(ShardPairs(config(other, exclude_images=path), Home(tmp_path / "other"))) == kept
    # What captions leave out is no first copy: image 0 has its second pair then.
    words = ("caption 0",)
    assert 3 in numbers(ShardPairs(config(folder, exclude_images=path, exclude=words), home))
    # Images are read once, however many lists follow; a relative path starts at $ABLATE_DATA.
    monkeypatch.setattr(image_hashes, "image_hash", None)
    monkeypatch.setenv("ABLATE_DATA", str(tmp_path))
    listing(tmp_path / "other.txt", whole=(0,))
    assert sorted(numbers(ShardPairs(config(folder, exclude_images="other.txt"), home))) == [1, 2, 4, 5, 6, 7]
    with pytest.raises(ConfigError, match="pairs=6, but the shards hold 8 samples, of which exclude_images leaves 5"):
        fingerprint(config(folder, exclude_images=path, pairs=6), home)


STUDY = """
name: repeated
base: {model: tiny, data: webdataset, suite: shapes, schedule: demo}
seeds: [0]
factors:
  images: {kept: {}, listed: {data.exclude_images: one.txt}, more: {data.exclude_images: two.txt}}
"""


def test_a_list_of_images_to_leave_out_is_a_level(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    write_repeated(tmp_path / "s")
    (tmp_path / "repeated.yaml").write_text(STUDY)
    monkeypatch.setenv("ABLATE_DATA", str(tmp_path))

    def ids(one: tuple[int, ...], two: tuple[int, ...]) -> list[str]:
        listing(tmp_path / "one.txt", rest=one)
        listing(tmp_path / "two.txt", rest=two)
        words = ("data.path=s/*.tar", "schedule.batch_size=2", "objective.local_batch=2")
        plan = make_plan(str(tmp_path / "repeated.yaml"), words, home=home, read_data=True)
        return [run.task_id for run in plan.runs]

    kept, listed, more = ids((0,), (0, 1))
    assert len({kept, listed, more}) == 3
    # By their content, not by their names.
    assert ids((0, 1), (0,)) == [kept, more, listed]


def test_impossible_lists_of_images(tmp_path: Path, home: Home) -> None:
    folder, path = write_repeated(tmp_path / "s"), tmp_path / "list.txt"
    listing(path, whole=tuple(range(6)))
    for function in (ShardPairs, fingerprint):
        with pytest.raises(ConfigError, match=r"'test': exclude_images leaves none of 8 samples; .*list\.txt names"):
            function(config(folder, exclude_images=str(path)), home)
    good = path.read_text().splitlines()
    for content, message in (
        (b"", "test: exclude_images: .*list.txt is empty; expected a list of images that"),
        (b"cat.jpg\ndog.jpg\n", "list.txt: line 1 is 'cat.jpg'; expected '# images to leave out, format 1'"),
        ("\n".join([*good, "0a1b all"]).encode(), "list.txt: line 9 is '0a1b all'; expected 32 hexadecimal digits"),
        (b"\xff\xd8\xff", "list.txt is no text"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            fingerprint(config(folder, exclude_images=str(path)), home)
    with pytest.raises(AbsentDataError, match=r"data test: exclude_images: .*gone.txt does not exist; expected a list"):
        fingerprint(config(folder, exclude_images=str(tmp_path / "gone.txt")), home)
    with pytest.raises(ConfigError, match=r"data\.exclude_images: x.txt cannot be applied to the procedural world"):
        check_data(DataConfig(name="shapes", kind="shapes", pairs=10, exclude_images="x.txt"), SCHEDULE)
    with pytest.raises(ConfigError, match=r"data\.exclude_images_fingerprint: set without data\.exclude_images"):
        check_data(config(folder, exclude_images_fingerprint="0123456789ab"), SCHEDULE)


def test_ids_given_before_stay(tmp_path: Path) -> None:
    assert not {"exclude", "exclude_images", "exclude_images_fingerprint"} & set(identity(config(tmp_path)))
    listed = config(tmp_path, exclude_images="a.txt", exclude_images_fingerprint="0123456789ab")
    assert identity(listed)["exclude_images_fingerprint"] == "0123456789ab"
    assert "exclude_images" not in identity(listed)
    assert identity(config(tmp_path, exclude=TAGS))["exclude"] == list(TAGS)
