"""Images with captions made into WebDataset shards, one whole shard after the other."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ablative.study.core.errors import DataError, StoreError
from ablative.study.core.files import read_json, replacing, write_json
from ablative.trainer.clip.data.images.pictures import decode, encoding
from ablative.trainer.clip.data.shards.pack_sources import Item

MANIFEST = "pack.json"
"""What the shards were made from and how far: the same command again continues."""
_DIGITS = 5


@dataclass(frozen=True)
class Packed:
    """Result of packing."""

    shards: tuple[Path, ...]
    samples: int
    skipped: tuple[str, ...]
    """Items that are in no shard, and why."""


def pack(
    items: Sequence[Item], out: Path, shard_size: int = 10_000, step: Callable[[int], None] = lambda count: None
) -> Packed:
    """Write `items` into `out/00000.tar` … of `shard_size` items each.

    Items without a caption or a readable image are skipped and listed. Images keep their bytes; formats other than
    JPEG, PNG and WebP become PNG. Every shard appears whole or not at all and depends on the items alone, so that an
    interrupted packing continues where it was.

    Args:
        step: is called with how many more items are done, for a progress bar.

    Raises:
        DataError: no item is usable, or `out` holds other shards.
        StoreError: `out` cannot be written (full, read-only).
    """
    try:
        manifest = _manifest(items, out, shard_size)
        for number, start in enumerate(range(0, len(items), shard_size)):
            name = f"{number:0{_DIGITS}d}.tar"
            part = items[start : start + shard_size]
            if name not in manifest["shards"]:
                manifest["shards"][name] = _write_shard(part, out / name, number)
                write_json(out / MANIFEST, manifest)
            step(len(part))
    except OSError as error:
        raise StoreError(
            f"cannot write {error.filename or out}: {error.strerror or error}; mend that and repeat"
        ) from None
    done = manifest["shards"]
    samples = sum(shard["samples"] for shard in done.values())
    skipped = tuple(reason for shard in done.values() for reason in shard["skipped"])
    if not samples:
        (out / MANIFEST).unlink()
        raise DataError(f"nothing to pack, all {len(items)} items are unusable; the first: {skipped[0]}")
    return Packed(tuple(out / name for name, shard in done.items() if shard["samples"]), samples, skipped)


def _manifest(items: Sequence[Item], out: Path, shard_size: int) -> dict[str, Any]:
    """The one in `out` if it is of these items, else a new one; refuses a folder with other shards."""
    source = _source(items, shard_size)
    found = read_json(out / MANIFEST)
    if isinstance(found, dict) and found.get("source") == source:
        shards = {name: shard for name, shard in found["shards"].items() if _there(out / name, shard)}
        return {"source": source, "shards": shards}
    others = sorted(out.glob("*.tar*")) if out.is_dir() else []
    if others:
        raise DataError(f"{out} holds shards of something else ({others[0].name}); name another folder, or remove them")
    return {"source": source, "shards": {}}


def _there(path: Path, shard: dict[str, Any]) -> bool:
    return not shard["samples"] or path.exists()


def _source(items: Sequence[Item], shard_size: int) -> str:
    """SHA-256 of what the shards depend on; images by path, size and time."""
    state = hashlib.sha256(str(shard_size).encode())
    for item in items:
        files = [item.image, *(path for _, path in item.extras)]
        stats = [(path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.exists()]
        parts = [*map(str, files), stats, item.captions, sorted(item.fields.items())]
        parts += [item.problem] if item.problem else []
        state.update(json.dumps(parts, default=str).encode())
    return state.hexdigest()


def _write_shard(items: Sequence[Item], path: Path, number: int) -> dict[str, Any]:
    """Write one shard; returns how many samples it holds and why others are not in it."""
    skipped = []
    samples: list[tuple[str, list[tuple[str, bytes]]]] = []
    for row, item in enumerate(items):
        try:
            samples.append((f"{number:0{_DIGITS}d}{row:0{_DIGITS}d}", _files(item)))
        except DataError as error:
            skipped.append(str(error))
    if samples:
        with replacing(path) as file:
            _write_tar(file, samples)
    return {"samples": len(samples), "skipped": skipped}


def _files(item: Item) -> list[tuple[str, bytes]]:
    """Suffix and content of a sample's files; raises DataError where the item is unusable."""
    if item.problem:
        raise DataError(item.problem)
    if not item.captions:
        raise DataError(f"{item.image}: no caption")
    try:
        content = item.image.read_bytes()
        extras = [(suffix, path.read_bytes()) for suffix, path in item.extras]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None
    suffix = encoding(content, str(item.image))
    if suffix is None:
        buffer = io.BytesIO()
        decode(content, str(item.image)).save(buffer, "PNG")
        suffix, content = "png", buffer.getvalue()
    fields = json.dumps(item.fields, ensure_ascii=False, default=str).encode()
    return [(suffix, content), ("txt", item.captions[0].encode()), ("json", fields), *extras]


def _write_tar(file: BinaryIO, samples: Sequence[tuple[str, list[tuple[str, bytes]]]]) -> None:
    """Write a tar file without times, owners or paths: the same samples give the same bytes."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples:
            for suffix, content in files:
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                member.mode = 0o644
                tar.addfile(member, io.BytesIO(content))
