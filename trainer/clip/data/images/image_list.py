"""Lists of images whose pairs are no part of the data (`data.exclude_images`), by the hashes of the images' bytes.

A line has the hash, `all` or `rest`, and the sets that have the image: `all` leaves out every pair with it, `rest` all
but the first. Lines that begin with # are comments; the first one says the format.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.core.files import write_atomic

FORMAT = "# images to leave out, format 1"
EXPECTED = "a list of images that `ablate data check SHARDS --write FILE` has written"
ALL, REST = "all", "rest"
HASH = np.dtype("S16")
"""The first 16 bytes of the SHA-256 of an image's bytes; empty where a sample has no image."""
_LINE = re.compile(r"([0-9a-f]{32}) (all|rest)( .*)?")


@dataclass(frozen=True)
class ImageList:
    """What a list says."""

    whole: np.ndarray
    """S16 (n,): images of which every pair is left out."""
    rest: np.ndarray
    """S16 (m,): images of which the first pair stays."""
    digest: str
    """Hexadecimal SHA-256 of the file."""


def image_hash(content: bytes) -> bytes:
    """16 bytes that name an image by its bytes."""
    return hashlib.sha256(content).digest()[: HASH.itemsize]


def hexadecimal(hashes: np.ndarray) -> list[str]:
    """32 digits for each of S16 (n,)."""
    # An element by itself would come without its last bytes where these are zero.
    return [row.tobytes().hex() for row in hashes.reshape(-1, 1).view(np.uint8)]


def write_list(path: Path, whole: Iterable[tuple[str, Sequence[str]]], rest: Iterable[str]) -> None:
    """Write a list.

    Args:
        whole: hash of an image, and names of the evaluation sets that have it.
        rest: hashes of images that occur more than once.
    """
    lines = [FORMAT, "# hash of the image's bytes, the pairs with it to leave out, evaluation sets that have it"]
    lines += [f"{digits} {ALL} {' '.join(names)}" for digits, names in sorted(whole)]
    lines += [f"{digits} {REST}" for digits in sorted(rest)]
    write_atomic(path, "\n".join(lines) + "\n")


def read_list(path: Path, where: str) -> ImageList:
    """What a list says.

    Raises:
        ConfigError: it has another format.
        DataError: it cannot be read.
    """
    found: dict[str, list[str]] = {ALL: [], REST: []}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(map(str.rstrip, file), start=1):
                if number == 1 and line != FORMAT:
                    raise ConfigError(
                        f"{where}: {path}: line 1 is '{line[:40]}'; expected '{FORMAT}', as in {EXPECTED}"
                    )
                if not line or line.startswith("#"):
                    continue
                if (match := _LINE.fullmatch(line)) is None:
                    raise ConfigError(
                        f"{where}: {path}: line {number} is '{line[:60]}'; expected 32 hexadecimal digits and "
                        f"`{ALL}` or `{REST}`"
                    )
                found[match[2]].append(match[1])
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{where}: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: {path} is no text ({error}); expected {EXPECTED}") from None
    if not path.stat().st_size:
        raise ConfigError(f"{where}: {path} is empty; expected {EXPECTED}")
    whole, rest = (np.frombuffer(bytes.fromhex("".join(found[kind])), HASH) for kind in (ALL, REST))
    return ImageList(whole, rest, digest)
