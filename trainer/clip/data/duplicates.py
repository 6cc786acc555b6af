"""Pairs whose image occurs more than once, and pairs whose image is one of an evaluation set: byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.evaluated_images import tested_images
from ablative.trainer.clip.data.images.image_list import ImageList, hexadecimal, write_list
from ablative.trainer.clip.data.shards.exclusion import kept_pairs
from ablative.trainer.clip.data.shards.image_hashes import ListedImages, image_hashes, repeated
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.spec.config import DataConfig, DatasetConfig


@dataclass(frozen=True)
class Evaluated:
    """What some pairs share with one evaluation set."""

    images: int
    """Different images of the set's test split."""
    shared: np.ndarray
    """S16 (n,): those of them that pairs have."""
    pairs: int
    """Pairs with one of these."""


@dataclass(frozen=True)
class ImageReport:
    """What `find_duplicates` found among the pairs that `data.exclude` leaves."""

    pairs: int
    repeated: int
    """Pairs whose image another pair has as well."""
    often: np.ndarray
    """S16 (n,): images that several pairs have."""
    sets: Mapping[str, Evaluated]
    """Keys are the names under which the sets were asked for."""
    left_out: int
    """Pairs that the list leaves out: all with an image of a set, and all but the first with a repeated one."""

    def to_json(self) -> dict[str, Any]:
        sets = {
            name: {"images": one.images, "shared_images": len(one.shared), "pairs": one.pairs}
            for name, one in self.sets.items()
        }
        return {
            "pairs": self.pairs,
            "repeated_pairs": self.repeated,
            "repeated_images": len(self.often),
            "evaluation_sets": sets,
            "left_out": self.left_out,
        }

    def lines(self) -> list[str]:
        """The findings as `ablate data check` prints them."""
        found = [f"repeated     {self.repeated} pairs have one of {len(self.often)} images that occur more than once"]
        for name, one in self.sets.items():
            found.append(
                f"evaluated    {one.pairs} pairs have one of {len(one.shared)} images of {name}, whose test split has "
                f"{one.images}"
            )
        return found

    def write(self, path: Path) -> None:
        """Write the list that `data.exclude_images` takes; raises StoreError where that fails."""
        named: dict[str, list[str]] = {}
        for name, one in self.sets.items():
            for digits in hexadecimal(one.shared):
                named.setdefault(digits, []).append(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_list(path, named.items(), set(hexadecimal(self.often)) - set(named))
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from None


def find_duplicates(data: DataConfig, sets: Mapping[str, DatasetConfig], home: Home) -> ImageReport:
    """Hash every image of some shards, and those of the sets' test splits."""
    where = f"data '{data.name}'"
    files = ShardFiles(find_shards(data.path, where), home, where)
    tested = {name: tested_images(dataset, home) for name, dataset in sets.items()}
    kept = kept_pairs(files, data, home)
    found = enumerate(image_hashes(files, home))
    hashes = np.concatenate([own if kept is None else own[kept.of(shard)] for shard, own in found])
    copies = repeated(hashes)
    evaluated = {}
    for name, images in tested.items():
        rows = np.isin(hashes, images)
        evaluated[name] = Evaluated(len(images), np.unique(hashes[rows]), int(rows.sum()))
    often = np.unique(hashes[copies])
    whole = np.concatenate([hashes[:0], *(one.shared for one in evaluated.values())])
    stays = ListedImages(ImageList(whole, often, "")).leave_in(hashes, np.ones(len(hashes), bool))
    return ImageReport(len(hashes), int(copies.sum()), often, evaluated, int((~stays).sum()))
