"""Headers of a tar archive, read ten times as fast as by `tarfile`, which builds an object for each member.

POSIX.1-2001 (ustar and pax) and GNU tar, as far as files are concerned: links, folders and devices are skipped.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ablative.study.core.errors import DataError

BLOCK = 512
_END = bytes(BLOCK)
_POINTER = b"version https://git-lfs"
_FILE, _LONG_NAME, _EXTENDED = (b"0", b"\0", b"7"), b"L", b"x"


def members(
    tar: Path, named: Path | None = None, header: Callable[[bytes], object] = bytes
) -> Iterator[tuple[str, int, int]]:
    """Name, offset of the content and size in bytes of every regular file, in order.

    Args:
        named: how error messages name the archive.
        header: is given every block that is no file's content, in order.

    Raises DataError where the archive is cut off, damaged, or none at all.
    """
    named = named or tar
    size = tar.stat().st_size
    if size < BLOCK and tar.read_bytes().startswith(_POINTER):
        raise DataError(f"shard {named}: a Git LFS pointer instead of the archive; fetch that with `git lfs pull`")
    if size < BLOCK:
        raise DataError(f"shard {named}: {size} bytes are no tar archive")
    with tar.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Headers lie far apart: what the system would read ahead is skipped.
        content.madvise(mmap.MADV_RANDOM)
        yield from _scan(content, size, named, header)


def _scan(
    content: mmap.mmap, size: int, named: Path, seen: Callable[[bytes], object]
) -> Iterator[tuple[str, int, int]]:
    position = 0
    long_name = ""
    extended: dict[str, str] = {}
    while True:
        header = content[position : position + BLOCK]
        if header == _END:
            return
        if len(header) < BLOCK:
            raise DataError(f"shard {named}: truncated after {position} bytes, before the end of the archive")
        _check(header, position, named)
        seen(header)
        start, length = position + BLOCK, _number(header[124:136])
        kind = header[156:157]
        if kind in _FILE and "size" in extended:
            length = int(extended["size"])
        position = start + (length + BLOCK - 1) // BLOCK * BLOCK
        if start + length > size:
            raise DataError(f"shard {named}: truncated, {start + length - size} bytes of {_name(header)} are missing")
        if kind in (_LONG_NAME, _EXTENDED):
            more = content[start : start + length]
            seen(more)
            if kind == _LONG_NAME:
                long_name = _text(more.rstrip(b"\0"))
            else:
                extended = _records(more)
        else:
            if kind in _FILE:
                yield extended.get("path") or long_name or _name(header), start, length
            long_name, extended = "", {}


def _check(header: bytes, position: int, named: Path) -> None:
    """Compare the header's checksum: the sum of its bytes, its own field counted as eight spaces."""
    field = header[148:156]
    try:
        # The low half of Adler-32 is the sum of the bytes modulo 65521, twenty times as fast as `sum`.
        right = (_number(field) + sum(field) - 8 * 32) % 65521 == zlib.adler32(header, 0) & 0xFFFF
    except ValueError:
        right = False
    if not right:
        what = "not a tar archive" if position == 0 else f"damaged at byte {position}"
        raise DataError(f"shard {named}: {what}; expected a WebDataset .tar or .tar.gz")


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 for more than 8 GiB."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.split(b"\0", 1)[0].strip() or b"0", 8)


def _name(header: bytes) -> str:
    name = _text(header[:100].split(b"\0", 1)[0])
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return f"{_text(prefix)}/{name}" if prefix else name


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _records(raw: bytes) -> dict[str, str]:
    """Extended header: "<length> <keyword>=<value>\\n", the length counting itself."""
    found = {}
    while raw.rstrip(b"\0"):
        length, _, rest = raw.partition(b" ")
        keyword, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        found[_text(keyword)] = _text(value)
        raw = raw[int(length) :]
    return found
