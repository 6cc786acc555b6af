"""Images from shards as training reads them: decoded as large as their crops need, and in the order of the disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from shard_world import config, encoded, sample, write_shard
from tiny_run import make_config

from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import identity
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.crops import Crops
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.spec.checks import check_run

KEYS = Crops(np.arange(12, dtype=np.uint64), 0.3)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes in which JPEGs are decoded, as they come."""
    sizes: list[tuple[int, int]] = []
    load = JpegImagePlugin.JpegImageFile.load

    def noted(image: JpegImagePlugin.JpegImageFile) -> object:
        sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noted)
    return sizes


def photograph(width: int, height: int, orientation: int = 1) -> bytes:
    """A JPEG of smooth shapes with fine stripes."""
    small = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    stripes = 20 * (np.arange(width) % 4 < 2)[None, :, None]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded((smooth + stripes).clip(0, 255).astype(np.uint8), "JPEG", quality=95, exif=exif)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_image_shows_the_same_crops(tmp_path: Path, decoded: list[tuple[int, int]], orientation: int) -> None:
    """768 × 576, crops of at least 0.3 of the area to 32 pixels: the narrowest side decides, 8 × 32 pixels at most."""
    content, home = photograph(768, 576, orientation), Home(tmp_path / "home")
    path = write_shard(tmp_path / "a.tar", [{"jpg": content, "txt": b"one"}])
    full, reduced = (ShardPairs(config(path, decoding=how), home) for how in ("full", "reduced"))
    places, narrow = np.zeros(12, np.int64), Crops(np.arange(12, 24, dtype=np.uint64), 0.02)
    whole = full.views(places, 32, KEYS).images.astype(int)
    assert set(decoded) == {(768, 576)}
    decoded.clear()
    images = reduced.views(places, 32, KEYS).images.astype(int)
    assert set(decoded) == {(96, 72)}, "a crop of 0.3 of the area is at least 256 pixels wide and high"
    errors = np.abs(images - whole).mean((1, 2, 3))
    others = np.abs(images - np.roll(whole, 1, axis=0)).mean((1, 2, 3))
    assert errors.max() < 4 < 15 < others.min()
    decoded.clear()
    reduced.views(places, 32, KEYS, further=[narrow])
    assert {(768, 576), (384, 288), (192, 144)} & set(decoded), "a further crop that is narrow asks for more pixels"
    decoded.clear()
    assert np.array_equal(reduced.views(places, 288, None).images, reduced.views(places[:1], 288, None).images[places])
    assert set(decoded) == {(384, 288)}, "the central square of 576 pixels"


def test_what_cannot_be_reduced_is_decoded_as_ever(tmp_path: Path, decoded: list[tuple[int, int]]) -> None:
    """A JPEG that is too small, a PNG; and a crop to more than half of the image."""
    small, drawn = photograph(60, 40), encoded(np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    path = write_shard(tmp_path / "a.tar", [{"jpg": small, "txt": b"a"}, {"png": drawn, "txt": b"b"}])
    full, reduced = (ShardPairs(config(path, decoding=how), Home(tmp_path / "home")) for how in ("full", "reduced"))
    places = np.arange(12) % 2
    for crops in (None, KEYS):
        one, other = (pairs.views(places, 24, crops).images for pairs in (full, reduced))
        assert np.array_equal(one, other)
    assert set(decoded) == {(60, 40)}


def test_decoding_is_part_of_the_identity() -> None:
    config = make_config(data__kind="shards", data__path="here")
    reduced = make_config(data__kind="shards", data__path="here", data__decoding="reduced")
    assert "decoding" not in str(identity(config)) and identity(config) != identity(reduced)
    check_run(reduced)
    with pytest.raises(ConfigError, match=r"data\.decoding: reduced, but the procedural world's images are drawn"):
        check_run(make_config(data__decoding="reduced"))


def test_samples_are_read_in_the_order_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order they are asked for, and they come back in that one, in memory that is given."""
    for shard in range(2):
        write_shard(tmp_path / f"{shard}.tar", [sample(10 * shard + i) for i in range(10)], first=10 * shard)
    pairs = ShardPairs(config(tmp_path), Home(tmp_path / "home"))
    asked = np.random.default_rng(0).permutation(20)
    expected = [pairs.caption(int(i)) for i in asked]
    reads: list[tuple[int, int]] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: reads.append((args[0], args[2])) or pread(*args))
    memory = np.zeros((1, 20, 8, 8, 3), np.uint8)
    views = pairs.views(asked, 8, None, into=memory)
    assert views.captions == expected and np.shares_memory(views.images, memory)
    assert [f"caption {image[0, 0, 0]}" for image in memory[0]] == expected
    for handle in {handle for handle, _ in reads}:
        # A sample's caption lies behind its image and is read before it.
        offsets = [offset for place, (number, offset) in enumerate(reads) if number == handle and place % 2]
        assert offsets == sorted(offsets) and len(offsets) == 10
