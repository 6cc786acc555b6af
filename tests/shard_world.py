"""Small shards for tests, written with `tarfile`."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ablative.study.home.paths import Home
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.spec.config import DataConfig


def encoded(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    """An image file of uint8 (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def plain(number: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """uint8 (H, W, 3) of one colour that tells the number; `size` is (width, height)."""
    return np.full((size[1], size[0], 3), (number % 256, number // 256, 7), dtype=np.uint8)


def turned() -> tuple[bytes, np.ndarray]:
    """A JPEG 16 wide and 8 high that EXIF turns upright, and uint8 (8, 16): 1 where it is white, on the left."""
    labels = np.zeros((8, 16), dtype=np.uint8)
    labels[:, :8] = 1
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.repeat(255 * labels[..., None], 3, axis=2), "JPEG", quality=100, exif=exif), labels


def sample(number: int, **fields: Any) -> dict[str, bytes]:
    """PNG, caption and JSON of a sample; its number is in all three."""
    content = {"number": number, "name": f"thing {number}", **fields}
    return {
        "png": encoded(plain(number)),
        "txt": f"caption {number}".encode(),
        "json": json.dumps(content).encode(),
    }


def write_shard(
    path: Path,
    samples: Sequence[Mapping[str, bytes]],
    first: int = 0,
    names: Sequence[str] | None = None,
    format: int = tarfile.USTAR_FORMAT,
) -> Path:
    """A .tar, or .tar.gz by its name, with keys `000000` … or `names`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w", format=format) as tar:
        for row, files in enumerate(samples):
            key = names[row] if names else f"{first + row:06d}"
            for suffix, content in files.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def write_shards(folder: Path, shards: int = 2, each: int = 5, suffix: str = ".tar") -> Path:
    """Shards with samples numbered through."""
    for shard in range(shards):
        numbers = range(shard * each, (shard + 1) * each)
        write_shard(folder / f"{shard:05d}{suffix}", [sample(number) for number in numbers], first=shard * each)
    return folder


def config(path: Path | str, **fields: Any) -> DataConfig:
    return DataConfig(**{"name": "test", "kind": "shards", "path": str(path), **fields})


def numbers(pairs: ShardPairs) -> list[int]:
    """Of all samples, in order."""
    return [pairs.json(i)["number"] for i in range(len(pairs))]


def index_at(folder: Path, home: Home, start: float) -> str:
    """What another process finds that indexes at the time `start` (it must not import the tests' oracles)."""
    time.sleep(max(0.0, start - time.time()))
    pairs = ShardPairs(config(folder), home)
    return f"{pairs.fingerprint} {numbers(pairs)}"
