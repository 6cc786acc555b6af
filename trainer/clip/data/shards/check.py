"""Reads every sample of some shards and counts what is there and what is broken."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablative.study.core.errors import DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.shards.shard_files import index_shards
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.spec.config import DataConfig

_CHUNK = 1000
_EXAMPLES = 20
"""Broken samples that are named one by one."""


@dataclass
class Findings:
    """What reading found; those of several parts add up."""

    samples: int = 0
    no_caption: int = 0
    no_image: int = 0
    """Samples without an image, or with one that cannot be decoded."""
    words: int = 0
    """Words in all captions together."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(width, height) → images."""
    examples: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int:
        return self.no_caption + self.no_image

    @property
    def usable(self) -> int:
        return self.samples - self.broken

    def add(self, other: Findings) -> None:
        self.samples += other.samples
        self.no_caption += other.no_caption
        self.no_image += other.no_image
        self.words += other.words
        self.sizes.update(other.sizes)
        self.examples += other.examples[: _EXAMPLES - len(self.examples)]


@dataclass(frozen=True)
class ShardReport:
    """Outcome of `check_shards`."""

    folder: Path
    shards: int
    unusable: tuple[str, ...]
    """Shards that cannot be read at all, and why."""
    fingerprint: str
    """Fingerprint of the usable shards; "" where there are none."""
    findings: Findings
    exclude: tuple[str, ...] = ()
    left_out: int = 0
    """Samples of the usable shards whose captions hold one of `exclude`: they are not in the findings."""
    empty: tuple[Path, ...] = ()
    """Shards without a sample."""

    @property
    def broken_share(self) -> float:
        """Share of the samples that are broken, 1 where there are no samples."""
        return self.findings.broken / self.findings.samples if self.findings.samples else 1.0

    def to_json(self) -> dict[str, Any]:
        found = self.findings
        return {
            "folder": str(self.folder),
            "shards": self.shards,
            "unusable_shards": list(self.unusable),
            "empty_shards": [str(path) for path in self.empty],
            "samples": found.samples,
            "left_out": self.left_out,
            "usable": found.usable,
            "broken": found.broken,
            "broken_share": self.broken_share,
            "without_caption": found.no_caption,
            "without_image": found.no_image,
            "examples": found.examples,
            "words_per_caption": found.words / found.usable if found.usable else None,
            "image_sizes": [[*size, count] for size, count in found.sizes.most_common(10)],
            "fingerprint": self.fingerprint,
        }


def check_shards(
    pattern: str,
    caption: str,
    home: Home,
    start: Callable[[int], Callable[[int], None]],
    workers: int = 0,
    exclude: tuple[str, ...] = (),
) -> ShardReport:
    """Index, read and decode all samples of the shards that a pattern names, but those that `exclude` leaves out.

    Args:
        caption: `txt` or `json.<key>`.
        start: is called with the number of samples and returns a function that takes how many more are done.
        workers: processes; 0 takes one for each core.

    Raises:
        DataError: no such shards.
        ConfigError: no such caption, or nothing that `exclude` leaves.
    """
    paths = find_shards(pattern)
    indexed = list(zip(paths, index_shards(paths, home), strict=True))
    unusable = tuple(str(index) for _, index in indexed if isinstance(index, DataError))
    good = [path for path, index in indexed if not isinstance(index, DataError) and index.samples]
    empty = tuple(path for path, index in indexed if not isinstance(index, DataError) and not index.samples)
    findings, fingerprint, left_out = Findings(), "", 0
    if good:
        pairs = ShardPairs(DataConfig(name=pattern, kind="shards", caption=caption, exclude=exclude), home, good)
        fingerprint, left_out = pairs.fingerprint, pairs.left_out
        step = start(len(pairs))
        for part in _examine_all(pairs, workers or len(os.sched_getaffinity(0))):
            findings.add(part)
            step(part.samples)
    return ShardReport(paths[0].parent, len(paths), unusable, fingerprint, findings, exclude, left_out, empty)


def _examine_all(pairs: ShardPairs, workers: int) -> Iterator[Findings]:
    parts = [range(first, min(first + _CHUNK, len(pairs))) for first in range(0, len(pairs), _CHUNK)]
    if workers < 2 or len(parts) < 4:
        for part in parts:
            yield examine(pairs, part)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(pairs,)) as pool:
        yield from pool.map(_examine, parts)


_pairs: ShardPairs | None = None
"""The shards that a worker process reads."""


def _start(pairs: ShardPairs) -> None:
    global _pairs  # noqa: PLW0603 - the one way in which a pool hands its workers something once
    _pairs = pairs


def _examine(part: range) -> Findings:
    assert _pairs is not None
    return examine(_pairs, part)


def examine(pairs: ShardPairs, part: range) -> Findings:
    """Read these samples."""
    found = Findings(samples=len(part))
    for i in part:
        try:
            caption = pairs.required_caption(i)
        except DataError as error:
            found.no_caption += 1
            found.examples.append(str(error))
            continue
        try:
            height, width, _ = pairs.image(i).shape
        except DataError as error:
            found.no_image += 1
            found.examples.append(str(error))
            continue
        found.sizes[width, height] += 1
        found.words += len(caption.split())
    del found.examples[_EXAMPLES:]
    return found
