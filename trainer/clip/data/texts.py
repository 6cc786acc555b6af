"""Files whose content is part of ids: texts that a tokenizer is fitted on, lists of images, published weights."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.errors import DataError
from ablative.study.core.files import write_atomic
from ablative.study.core.identity import digest
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.places import locate
from ablative.trainer.clip.data.shards.shard_files import FINGERPRINT_DIGITS
from ablative.trainer.clip.data.shards.shard_index import writing
from ablative.trainer.clip.spec.fingerprints import ContentFile


@dataclass(frozen=True)
class TextLines:
    """The first `count` lines, read anew by everyone who walks through them."""

    path: Path
    count: int

    def __iter__(self) -> Iterator[str]:
        """Raises DataError where the file cannot be read or is no UTF-8."""
        try:
            with self.path.open(encoding="utf-8") as file:
                yield from itertools.islice(file, self.count)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: no UTF-8 text ({error})") from None


def find_content(source: ContentFile) -> Path:
    """Raises AbsentDataError where there is no such file."""
    return locate(source.path, source.where, source.expected)


def file_fingerprint(source: ContentFile, home: Home) -> str:
    """12 hexadecimal digits over the whole file; it is read once, and later asked only whether it is still the same."""
    path = find_content(source)
    try:
        stat = path.stat()
        known = home.texts_fingerprint(digest(f"{path}\n{stat.st_size}\n{stat.st_mtime_ns}"))
        if not known.exists():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()[:FINGERPRINT_DIGITS]
            with writing(known.parent):
                write_atomic(known, found)
        return known.read_text()
    except OSError as error:
        raise DataError(f"{source.where}: {path}: {error.strerror}") from None


def unchanged(source: ContentFile, expected: str, home: Home) -> str:
    """The fingerprint of a file; raises DataError when it is not the one that the study was planned with."""
    found = file_fingerprint(source, home)
    if expected and not found.startswith(expected):
        raise DataError(
            f"{source.where} has changed: the fingerprint of {source.path} is {found}, the study was "
            f"planned with {expected}; restore the file, or plan again"
        )
    return found
