"""TensorBoard's event files: scalars read from the framed protocol buffers, without TensorBoard or TensorFlow.

A file is a sequence of frames: length (8 bytes, little endian), its checksum (4), an `Event` message, its checksum
(4). Fields by number, from TensorFlow's `event.proto`, `summary.proto` and `tensor.proto`: Event 2 step, 5 summary;
Summary 1 value; Value 1 tag, 2 simple_value, 8 tensor; Tensor 1 dtype, 4 content, 5 to 11 and 13 values by type.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from ablative.trainer.program.metrics.records import Record, not_written
from ablative.trainer.program.metrics.tails import Tail, is_glob, natural

LARGEST_EVENT = 1 << 20
"""Bytes; larger events are images, graphs and the like."""
_FRAME = struct.Struct("<QI")
_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_FORMATS = {1: "<f", 2: "<d", 3: "<i", 9: "<q", 19: "<e"}
"""TensorFlow's types of one number → `struct` format of their content."""
_BFLOAT16 = 14

Field = tuple[int, int, int | bytes]
"""Number, wire type, value."""


class EventFiles:
    """Scalars of all event files in a folder and below, in the order of their names, which begin with their time."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder, self.pattern = folder, pattern
        self._files: dict[Path, _EventFile] = {}
        self._number = 0

    def read(self, last: bool) -> Iterator[Record]:
        for path in self._paths():
            file = self._files.setdefault(path, _EventFile(path))
            for step, fields in file.read(last):
                self._number += 1
                yield Record(fields, self._number - 1, (path, file.tail.generation), step)

    def place(self) -> str:
        return self.pattern

    def absent(self) -> str:
        return "" if self._files else not_written(self.folder, f"an event file in {self.pattern}")

    def notes(self) -> list[str]:
        faults = [f"{path.name}: {file.tail.fault}" for path, file in self._files.items() if file.tail.fault]
        return faults + [
            f"{path.relative_to(self.folder)}: damaged at byte {file.damaged_at}; read up to there"
            for path, file in self._files.items()
            if file.damaged_at is not None
        ]

    def _paths(self) -> list[Path]:
        roots = sorted(self.folder.glob(self.pattern)) if is_glob(self.pattern) else [self.folder / self.pattern]
        found: dict[Path, None] = {}
        for root in roots:
            if root.is_file():
                found[root] = None
            for parent, _, names in os.walk(root):
                found.update(dict.fromkeys(Path(parent, name) for name in names if "tfevents" in name))
        return sorted(found, key=lambda path: (natural(Path(path.name)), str(path)))


class _EventFile:
    """Events of one file, each once."""

    def __init__(self, path: Path) -> None:
        self.tail = Tail(path)
        self.damaged_at: int | None = None
        self._rest, self._generation, self._done, self._leave_out = b"", 0, 0, 0

    def read(self, last: bool) -> Iterator[tuple[int, dict[str, object]]]:
        """Step and scalars of each new event that has some."""
        for data in self.tail.chunks(last):
            if self.tail.generation != self._generation:
                self._generation, self._rest, self._done, self._leave_out = self.tail.generation, b"", 0, 0
                self.damaged_at = None
            if self.damaged_at is None:
                self._rest += data[self._leave_out :]
                self._leave_out = max(0, self._leave_out - len(data))
                for event in self._events():
                    step, scalars = scalars_of(event)
                    if scalars:
                        yield step, scalars

    def _events(self) -> Iterator[bytes]:
        """Complete events at the beginning of what is not consumed yet."""
        begin = 0
        while len(self._rest) - begin >= _FRAME.size:
            length, checksum = _FRAME.unpack_from(self._rest, begin)
            if masked_crc(self._rest[begin : begin + 8]) != checksum:
                self.damaged_at = self._done + begin
                self._rest = b""
                return
            end = begin + _FRAME.size + length + 4
            if end > len(self._rest):
                if length > LARGEST_EVENT:
                    self._leave_out = end - len(self._rest)
                    self._done, self._rest = self._done + end, b""
                    return
                break
            if length <= LARGEST_EVENT:
                yield self._rest[begin + _FRAME.size : end - 4]
            begin = end
        self._done, self._rest = self._done + begin, self._rest[begin:]


def scalars_of(event: bytes) -> tuple[int, dict[str, object]]:
    """Step and scalars of an `Event` message, by tag; none where it holds other things or is damaged."""
    step, found = 0, dict[str, object]()
    try:
        for number, wire, value in _fields(event):
            if number == 2 and isinstance(value, int):
                step = value - (1 << 64) if value >> 63 else value
            elif number == 5 and wire == 2 and isinstance(value, bytes):
                found.update(_summary(value))
    except (IndexError, struct.error, ValueError):
        return step, {}
    return step, found


def _summary(message: bytes) -> Iterator[tuple[str, float]]:
    for number, _, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            tag, scalar = "", None
            for inner, wire, content in _fields(value):
                if inner == 1 and isinstance(content, bytes):
                    tag = content.decode("utf-8", "replace")
                elif inner == 2 and wire == 5 and isinstance(content, bytes):
                    scalar = float(struct.unpack("<f", content)[0])
                elif inner == 8 and isinstance(content, bytes):
                    scalar = _tensor(content)
            if scalar is not None:
                yield tag, scalar


def _tensor(message: bytes) -> float | None:
    """The number of a tensor that holds one; None for others."""
    kind, content, numbers = 0, b"", []
    for number, _, value in _fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number in (5, 6) and isinstance(value, bytes):
            form = "<f" if number == 5 else "<d"
            numbers += [float(item) for (item,) in struct.iter_unpack(form, value)]
        elif number in (7, 10):
            varints = [value] if isinstance(value, int) else list(_varints(value))
            numbers += [float(item - (1 << 64) if item >> 63 else item) for item in varints]
    if kind == _BFLOAT16 and len(content) == 2:
        return float(struct.unpack("<f", b"\0\0" + content)[0])
    if content and kind in _FORMATS and len(content) == struct.calcsize(_FORMATS[kind]):
        return float(struct.unpack(_FORMATS[kind], content)[0])
    return numbers[0] if len(numbers) == 1 and not content else None


def _fields(message: bytes) -> Iterator[Field]:
    """Fields of a protocol buffer; raises IndexError, struct.error or ValueError where it is damaged."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, wire, value
            continue
        if wire == 2:
            size, place = _varint(message, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place + size > len(message):
            raise ValueError("cut")
        yield number, wire, message[place : place + size]
        place += size


def _varints(message: bytes) -> Iterator[int]:
    place = 0
    while place < len(message):
        value, place = _varint(message, place)
        yield value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def masked_crc(data: bytes) -> int:
    """Checksum of a frame's length: CRC-32C, rotated and shifted so that checksums of checksums differ."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
