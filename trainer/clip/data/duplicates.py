"""Pairs whose image occurs more than once, and pairs whose image is one of an evaluation set: byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.evaluated_images import tested_images
from ablative.trainer.clip.data.images.image_list import HASH, ImageList, hexadecimal, write_list
from ablative.trainer.clip.data.shards.exclusion import kept_pairs
from ablative.trainer.clip.data.shards.image_hashes import ListedImages, image_hashes, repeated, starts
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shard_index import CONTENT, SAMPLE, known_summary
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.spec.config import DataConfig, DatasetConfig

AT_ONCE = 2**27
"""Hashes of images that are compared with each other together: 2 GiB of them, and about twice that to sort them."""


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
    """Hash every image of some shards, and those of the sets' test splits.

    Shards that are indexed by a sample of their content are not read whole.
    """
    where = f"data '{data.name}'"
    paths = find_shards(data.path, where)
    known = [by for by in (CONTENT, SAMPLE) if known_summary(paths[0], home, by) is not None]
    files = ShardFiles(paths, home, where, *known[:1])
    tested = {name: tested_images(dataset, home) for name, dataset in sets.items()}
    kept = kept_pairs(files, data, home)

    def hashes() -> Iterator[np.ndarray]:
        """S16 of every shard's pairs, in the order of the data; all images are read the first time alone."""
        for shard, own in enumerate(image_hashes(files, home)):
            yield own if kept is None else own[kept.of(shard)]

    count, evaluated = _shared(hashes(), tested)
    copies, often = _repeated(hashes, -(-len(files) // AT_ONCE))
    whole = np.concatenate([often[:0], *(one.shared for one in evaluated.values())])
    listed = ListedImages(ImageList(whole, often, ""))
    stay = sum(int(listed.leave_in(own, np.ones(len(own), bool)).sum()) for own in hashes())
    return ImageReport(count, copies, often, evaluated, count - stay)


def _shared(shards: Iterable[np.ndarray], tested: Mapping[str, np.ndarray]) -> tuple[int, dict[str, Evaluated]]:
    """Number of pairs, and what they share with each set, by the hashes S16 of the shards' and the sets' images."""
    count, pairs = 0, dict.fromkeys(tested, 0)
    shared = {name: [images[:0]] for name, images in tested.items()}
    for own in shards:
        count += len(own)
        for name, images in tested.items():
            both = own[np.isin(own, images)]
            pairs[name] += len(both)
            shared[name].append(np.unique(both))
    return count, {
        name: Evaluated(len(images), np.unique(np.concatenate(shared[name])), pairs[name])
        for name, images in tested.items()
    }


def _repeated(hashes: Callable[[], Iterator[np.ndarray]], parts: int) -> tuple[int, np.ndarray]:
    """Pairs whose image another pair has, and these images S16 (n,): part for part, by how their hashes begin."""
    copies, often = 0, [np.empty(0, HASH)]
    for part in range(parts):
        own = np.concatenate([each[starts(each) % np.uint64(parts) == part] for each in hashes()])
        found = own[repeated(own)]
        copies += len(found)
        often.append(np.unique(found))
    return copies, np.unique(np.concatenate(often))
