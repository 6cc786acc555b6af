"""Image-text pairs in WebDataset shards, as img2dataset writes them, with random access."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablative.study.core.errors import DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.crops import Crops, boxes
from ablative.trainer.clip.data.images.pictures import Box, central_square, decode, squares
from ablative.trainer.clip.data.pairs.pairs import Views
from ablative.trainer.clip.data.shards.captions import check_caption, one_caption
from ablative.trainer.clip.data.shards.epoch_order import ShardOrder
from ablative.trainer.clip.data.shards.selection import subset
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.spec.config import DataConfig


class ShardPairs:
    """The pairs of some shards, or a fixed random subset of them (see `pairs.Pairs`).

    A sample without an image, without a caption, or with an image that cannot be decoded is broken: reading
    it raises DataError, and `views` puts the next readable one in its place.
    """

    native_size = 0

    def __init__(self, data: DataConfig, home: Home, shards: Sequence[Path] | None = None) -> None:
        """
        Args:
            shards: instead of those that `data.path` names.

        Raises:
            DataError: no such shards, or one of them is unusable.
            ConfigError: more pairs wanted than there are, none left by what excludes them, or no such
                caption.
        """
        where = f"data '{data.name}'"
        self._files = ShardFiles(shards or find_shards(data.path, where), home, where, data.fingerprint_by)
        self.fingerprint = self._files.fingerprint
        check_caption(self._files, data.caption, where)
        self._caption, self._reduced = data.caption, data.decoding == "reduced"
        self.by_epoch = data.captions == "epoch"
        self._subset = subset(self._files, data, home)

    def __len__(self) -> int:
        return len(self._files) if self._subset is None else len(self._subset)

    @property
    def shard_sizes(self) -> np.ndarray:
        """int64 (shards,): how many of the pairs lie in each, in order."""
        return self._files.sizes if self._subset is None else self._subset.sizes

    @property
    def left_out(self) -> int:
        """Samples of the shards that are no pairs."""
        return len(self._files) - len(self)

    def image(self, i: int) -> np.ndarray:
        """uint8 (H, W, 3), transparency on white; raises DataError where the sample is broken."""
        number = self._number(i)
        return np.array(decode(self._files.read_image(number), self._files.name(number)))

    def caption(self, i: int) -> str:
        """First caption of a sample, "" where it has none."""
        try:
            return one_caption(self._files, self._number(i), self._caption)
        except DataError:
            return ""

    def json(self, i: int) -> dict[str, Any]:
        """The sample's JSON, {} where it has none."""
        return self._files.read_json(self._number(i))

    def extra(self, i: int, suffix: str) -> bytes | None:
        """Another file of the sample, such as `.seg.png`, or None."""
        return self._files.read(self._number(i), suffix.removeprefix("."))

    def name(self, i: int) -> str:
        """Shard and key, for messages."""
        return self._files.name(self._number(i))

    def views(
        self,
        indices: np.ndarray,
        size: int,
        crops: Crops | None,
        further: Sequence[Crops] = (),
        chosen: np.ndarray | None = None,
        into: np.ndarray | None = None,
    ) -> Views:
        """Samples `indices` (n,) at `size` pixels: cropped, or else their central squares.

        They are read in the order in which they lie on the disk.
        """
        asked, count = (crops, *further), len(indices)
        images = np.empty((len(asked), count, size, size, 3), dtype=np.uint8) if into is None else into
        captions, broken = [""] * count, []
        for place in np.argsort(indices, kind="stable").tolist():
            for step in range(len(self)):
                i = (int(indices[place]) + step) % len(self)
                try:
                    captions[place] = self.required_caption(i, 0.0 if chosen is None else float(chosen[place]))
                    own = [None if each is None else each[place : place + 1] for each in asked]
                    self._squares(i, own, images[:, place])
                    break
                except DataError as error:
                    broken.append((i, str(error)))
            else:
                raise DataError(f"none of {len(self)} samples can be read; the last: {broken[-1][1]}")
        return Views(images[0], captions, tuple(broken), images[1:] if further else None)

    def order(self, seed: int, epoch: int) -> ShardOrder:
        """Every pair once, shuffled within randomly dealt groups of shards."""
        return ShardOrder(self.shard_sizes, seed, epoch)

    def _number(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"pair {i} of {len(self)}")
        return int(i) if self._subset is None else self._subset.number(int(i))

    def required_caption(self, i: int, chosen: float = 0.0) -> str:
        """Caption of a sample (see `one_caption`); raises DataError where it has none."""
        number = self._number(i)
        caption = one_caption(self._files, number, self._caption, chosen)
        if not caption:
            raise DataError(f"{self._files.name(number)} has no caption ({self._caption})")
        return caption

    def _squares(self, i: int, crops: Sequence[Crops | None], out: np.ndarray) -> None:
        """Write crops of a sample's image, or its central square, into uint8 (crops, S, S, 3)."""
        number = self._number(i)

        def wanted(width: int, height: int) -> list[Box]:
            sides = np.array([width]), np.array([height])
            return [
                central_square(width, height) if crop is None else tuple(boxes(crop, *sides)[0].tolist())
                for crop in crops
            ]

        squares(self._files.read_image(number), self._files.name(number), wanted, out, self._reduced)
