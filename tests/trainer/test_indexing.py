"""`ablate data index`, and the two kinds of fingerprints of shards: which are told apart, and what each notices."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shard_world import config, numbers, sample, write_shard, write_shards

from ablative.study.cli import main
from ablative.study.core.errors import ConfigError, DataError
from ablative.study.core.identity import identity
from ablative.study.core.typed import build
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.data.images.image_list import image_hash
from ablative.trainer.clip.data.shards import image_hashes, shard_index
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.data.shards.tar_members import members
from ablative.trainer.clip.spec.checks import check_data
from ablative.trainer.clip.spec.config import DataConfig, ScheduleConfig

Called = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


@pytest.fixture
def index(home: Home, capsys: pytest.CaptureFixture[str]) -> Called:
    """`ablate data index`: exit code, output, errors."""

    def called(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["data", "index", *map(str, words)], standalone=False)
        return code, *capsys.readouterr()

    return called


def test_processes_index_what_is_not_indexed_yet(
    tmp_path: Path, home: Home, index: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(tmp_path / "s", shards=3)
    alone = fingerprint(config(folder), Home(tmp_path / "alone"))
    code, out, _ = index(folder, "--jobs", 2)
    assert (code, out.split()) == (0, ["3", "shards,", "0", "unusable", "samples", "15", "fingerprint", alone])
    monkeypatch.setattr(shard_index, "_make", None)
    code, out, _ = index(folder, "--json")
    found = {"shards": 3, "indexed": 3, "unusable": [], "samples": 15, "fingerprint": alone}
    assert (code, json.loads(out)) == (0, found)
    # The plan reads these.
    assert fingerprint(config(folder), home) == alone


@pytest.mark.parametrize("processes", [(), ("--jobs", 2)])
def test_images_are_hashed_too(
    tmp_path: Path, home: Home, index: Called, processes: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(tmp_path / "s", shards=3)
    assert index(folder)[0] == 0 and not list((home.cache / "images").glob("*"))
    (folder / "bad.tar").write_bytes(b"x" * 1000)
    code, out, _ = index(folder, "--images", *processes)
    assert code == 1 and "4 shards, 1 unusable\n" in out and "bad.tar: not a tar archive" in out
    (folder / "bad.tar").unlink()
    monkeypatch.setattr(image_hashes, "_of_sample", None)
    assert json.loads(index(folder, "--images", "--json")[1])["indexed"] == 3
    files = ShardFiles(sorted(folder.glob("*.tar")), home, "s")
    found = [own.tolist() for own in image_hashes.image_hashes(files, home)]
    assert found[2][1] == image_hash(files.read(11, "png") or b"") and [len(own) for own in found] == [5, 5, 5]


def test_unusable_shards_are_named_and_the_others_indexed(tmp_path: Path, home: Home, index: Called) -> None:
    folder = write_shards(tmp_path / "s", shards=2)
    (folder / "bad.tar").write_bytes(b"x" * 1000)
    code, out, _ = index(folder)
    assert code == 1 and "3 shards, 1 unusable\n" in out and "bad.tar: not a tar archive" in out
    (folder / "bad.tar").unlink()
    assert json.loads(index(folder, "--json")[1])["indexed"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fingerprint-by", "smaple"), "unknown kind of fingerprint 'smaple'; did you mean 'sample'"),
        (("cluster=slrum",), "unknown cluster 'slrum'; did you mean 'slurm'"),
        (("clutser=slurm",), "override 'clutser' (without a study): unknown key 'clutser'; did you mean 'cluster'"),
        (("data.pairs=3",), "override 'data.pairs' (without a study): unknown key 'data'"),
    ],
)
def test_impossible_words(tmp_path: Path, index: Called, words: tuple[str, ...], message: str) -> None:
    code, _, said = index(write_shards(tmp_path / "s"), *words)
    assert code == 2 and said.startswith("ablate: ") and message in said and said.count("\n") == 1


def by_sample(path: Path, home: Home) -> str:
    return fingerprint(config(path, fingerprint_by="sample"), home)


def write_many(path: Path, **changes: Any) -> Path:
    """A shard of 90 samples with three files each."""
    return write_shard(path, [sample(i) for i in range(90)], **changes)


def test_a_sample_of_the_content_is_another_kind_of_fingerprint(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(tmp_path / "s", shards=2)
    found = fingerprint(config(folder), home)
    monkeypatch.setattr(shard_index, "_sha256", None)  # reads all bytes
    sampled = by_sample(folder, home)
    assert sampled.startswith("sample:") and found not in sampled
    pairs = ShardPairs(config(folder, fingerprint_by="sample"), home)
    assert pairs.fingerprint == sampled and sorted(numbers(pairs)) == list(range(10))
    # The plan notes the kind in what it hashes, and says nothing of the usual one.
    assert "fingerprint_by" not in identity(config(folder, fingerprint=found))
    assert identity(config(folder, fingerprint_by="sample"))["fingerprint_by"] == "sample"
    # Names of shards and compression do not count, as for the usual one.
    other = tmp_path / "t"
    other.mkdir()
    (other / "z.tar").write_bytes((folder / "00000.tar").read_bytes())
    (other / "a.tar.gz").write_bytes(gzip.compress((folder / "00001.tar").read_bytes()))
    assert by_sample(other, home) == sampled


def test_what_a_sample_of_the_content_notices_and_what_not(tmp_path: Path, home: Home) -> None:
    path = write_many(tmp_path / "a.tar")
    before, content, whole = by_sample(path, home), path.read_bytes(), Home(tmp_path / "whole")
    bytes_before = fingerprint(config(path), whole)

    def changed(offset: int) -> tuple[bool, bool]:
        """Whether the sample, and all bytes, tell a shard of which a byte is another."""
        other = tmp_path / f"{offset}.tar"
        other.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        kinds = by_sample(other, home) != before, fingerprint(config(other), whole) != bytes_before
        other.unlink()
        return kinds

    listed = list(members(path))
    assert len(listed) == 270
    texts = [changed(offset) for _, offset, _ in listed[1::15]]
    assert [told for _, told in texts] == [True] * 18
    # 64 of 270 files are looked at.
    assert 0 < sum(seen for seen, _ in texts) < 12
    # Headers all count: here a sample is called otherwise, which its other files are not.
    assert by_sample(write_many(tmp_path / "b.tar", names=[f"{i:06d}" for i in range(1, 91)]), home) != before
    assert by_sample(write_shard(tmp_path / "c.tar", [sample(i) for i in range(91)]), home) != before
    assert by_sample(write_shard(tmp_path / "d.tar", [sample(i) for i in [1, 0, *range(2, 90)]]), home) != before
    (tmp_path / "e.tar").write_bytes(content + bytes(10240))
    assert by_sample(tmp_path / "e.tar", home) != before


def test_shards_that_are_indexed_by_a_sample_are_not_read_whole_without_a_word(
    tmp_path: Path, home: Home, index: Called
) -> None:
    folder = write_shards(tmp_path / "s")
    assert index(folder, "--fingerprint-by", "sample")[0] == 0
    for function in (ShardPairs, fingerprint):
        with pytest.raises(DataError, match=r"00000\.tar is indexed by 'sample', expected 'content': say data\.finger"):
            function(config(folder), home)
    assert by_sample(folder, home).startswith("sample:")
    assert index(folder)[0] == 0
    assert fingerprint(config(folder), home) == ShardPairs(config(folder), home).fingerprint
    # A shard that is new to both is simply read.
    os.utime(folder / "00000.tar", ns=(0, 0))
    assert len(fingerprint(config(folder), home)) == 12


def test_impossible_kinds() -> None:
    with pytest.raises(ConfigError, match=r"data\.fingerprint_by: .*'smaple'.*did you mean 'sample'"):
        build(DataConfig, {"name": "x", "kind": "shards", "fingerprint_by": "smaple"}, "data")
    schedule = ScheduleConfig(name="test", steps=1, batch_size=2)
    with pytest.raises(ConfigError, match=r"data\.fingerprint_by: sample, but the procedural world has no files"):
        check_data(DataConfig(name="shapes", kind="shapes", pairs=10, fingerprint_by="sample"), schedule)
