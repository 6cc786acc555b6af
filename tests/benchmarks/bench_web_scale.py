"""What web-scale data cost before and while a model is trained: 1.4 billion pairs in 140,000 shards, made up.

    python tests/benchmarks/bench_web_scale.py [--pairs 1400000000] [--shards 140000] [--only SIZE]

No image is read: all shards are links to one small archive, their indexes to one index, and their images' hashes to 64
files. Each row is measured in a process of its own, whose imports do not count, at three sizes: a tenth of the
shards, all shards with a tenth of the pairs each, and all. What grows from the second to the third grows with the
pairs, though the shards are the same; what grows from the first to the third alone grows with the shards. Seconds are
CPU seconds; the memory is the most that a row took. The whole takes some minutes, a gigabyte and 450,000
files in TMPDIR; `--pairs 14000000 --shards 1400` takes one minute.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import pickle
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.image_list import HASH, write_list
from ablative.trainer.clip.data.pairs.loader import Loader
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.shards.shard_files import ShardFiles
from ablative.trainer.clip.data.shards.shard_index import cache_name
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.spec.config import DataConfig

BATCH = 16_384
HASH_FILES = 64
LISTED = 50_000
"""Images of evaluation sets that are left out, and as many again of which the first pair stays."""


@dataclass(frozen=True)
class World:
    """Shards that are made up, and the home that knows them."""

    folder: Path
    shards: int
    each: int
    """Samples in a shard."""

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def pattern(self) -> str:
        return str(self.folder / f"shards/{{000000..{self.shards - 1:06d}}}.tar")

    @property
    def list(self) -> Path:
        return self.folder / "images.txt"

    def data(self, **fields: object) -> DataConfig:
        return DataConfig(name="web", kind="shards", path=self.pattern, **fields)  # type: ignore[arg-type]

    def pairs(self, **fields: object) -> ShardPairs:
        return ShardPairs(self.data(**fields), self.home)


def make(world: World) -> None:
    """One archive, one index and 64 files of hashes, with a link for each shard."""
    shards, cache = world.folder / "shards", world.home.cache / "shards"
    shards.mkdir(parents=True)
    cache.mkdir(parents=True)
    caption = b"a photo of something"
    archive = world.folder / "archive"
    archive.write_bytes(caption.ljust(512, b"\0"))
    stat, index = archive.stat(), world.folder / "index.npz"
    offsets = np.zeros((world.each, 3), np.int64)
    with index.open("wb") as file:
        np.savez(
            file,
            sha256=np.array("0" * 64),
            stamp=np.array([stat.st_size, stat.st_mtime_ns]),
            suffixes=np.array(["jpg", "txt", "json"]),
            keys=np.array([f"{number:09d}".encode() for number in range(world.each)]),
            offsets=offsets,
            sizes=np.full_like(offsets, len(caption)),
        )
    for number in range(world.shards):
        path = shards / f"{number:06d}.tar"
        path.symlink_to(archive)
        (cache / f"{cache_name(path)}.npz").symlink_to(index)


def make_hashes(world: World) -> None:
    """Contents of their own for the shards, in the summary that the first reading has left, and images for each."""
    (summary,) = (world.home.cache / "shards").glob("set-*.json")
    contents = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(world.shards)]
    summary.write_text(json.dumps({"shards": [[content, world.each] for content in contents]}))
    world.home.image_hashes("").parent.mkdir(parents=True)
    generator, files, listed = np.random.default_rng(0), [], []
    for number in range(HASH_FILES):
        files.append(world.folder / f"hashes-{number}.npy")
        hashes = generator.integers(1, 256, (world.each, HASH.itemsize), np.uint8)
        np.save(files[-1], hashes.view(HASH)[:, 0])
        listed += [row.tobytes().hex() for row in hashes[: 2 * LISTED // HASH_FILES // 100]]
    for number, content in enumerate(contents):
        world.home.image_hashes(content).symlink_to(files[number % HASH_FILES])
    # Most images of a list are in none of the shards: the others would be in a 64th of them.
    listed += [row.tobytes().hex() for row in generator.integers(1, 256, (2 * LISTED - len(listed), 16), np.uint8)]
    write_list(world.list, [(digits, ["imagenet"]) for digits in listed[::2]], listed[1::2])


def list_shards(world: World) -> Callable[[], object]:
    return lambda: find_shards(world.pattern)


def summary(world: World) -> Callable[[], object]:
    paths = find_shards(world.pattern)
    return lambda: ShardFiles(paths, world.home)


def order(world: World) -> Callable[[], object]:
    pairs, places = world.pairs(), np.arange(BATCH)
    return lambda: pairs.order(0, 0)[places]


def subset(world: World) -> Callable[[], object]:
    return lambda: world.pairs(pairs=world.shards * world.each // 2).shard_sizes


def exclusion(world: World) -> Callable[[], object]:
    return lambda: world.pairs(exclude_images=str(world.list)).shard_sizes


def resume(world: World) -> Callable[[], object]:
    """A pair of the batch that a run needs which was stopped at a random step of its third epoch."""
    pairs = world.pairs(exclude_images=str(world.list), pairs=world.shards * world.each // 2)
    tokenizer = Tokenizer.fit(["a photo of something"], 512, 16)
    loader = Loader(pairs, tokenizer, BATCH, 224, seed=0, crop_scale=0.5)
    step = int(np.random.default_rng(1).integers(2 * len(pairs) // BATCH, 3 * len(pairs) // BATCH))
    return lambda: [pairs.caption(int(i)) for i in np.sort(loader.indices(step))]


def handed_over(world: World) -> Callable[[], object]:
    """What a loader process gets."""
    pairs = world.pairs(exclude_images=str(world.list), pairs=world.shards * world.each // 2)
    return lambda: pickle.loads(pickle.dumps(pairs))


ROWS: dict[str, Callable[[World], Callable[[], object]]] = {
    "names of the shards": list_shards,
    "summary, first time": summary,
    "summary, again": summary,
    "order of an epoch, first batch": order,
    "half of the pairs, first time": subset,
    "half of the pairs, again": subset,
    "data.exclude_images, first time": exclusion,
    "data.exclude_images, again": exclusion,
    "both, batch of a random step": resume,
    "both, handed to a loader process": handed_over,
}


def _status(key: str) -> float:
    """MiB, as the kernel counts this process's memory."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def measure(name: str, world: World) -> tuple[float, float]:
    """CPU seconds and MiB of a row."""
    work = ROWS[name](world)
    Path("/proc/self/clear_refs").write_text("5")  # the high water mark begins anew
    before, begin = _status("VmRSS"), time.process_time()
    result = work()
    seconds, peak = time.process_time() - begin, _status("VmHWM") - before
    del result
    return seconds, max(0.0, peak)


def measured(world: World) -> dict[str, tuple[float, float]]:
    """Every row, each in a process of its own."""
    make(world)
    context = multiprocessing.get_context("fork")
    found = {}
    for name in ROWS:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found[name] = pool.submit(measure, name, world).result()
        if name == "summary, first time":
            make_hashes(world)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_400_000_000)
    parser.add_argument("--shards", type=int, default=140_000)
    parser.add_argument("--only", type=int, choices=(1, 2, 3), help="one of the three sizes")
    asked = parser.parse_args()
    each = asked.pairs // asked.shards
    sizes = {1: (asked.shards // 10, each), 2: (asked.shards, each // 10), 3: (asked.shards, each)}
    columns = []
    for number, (shards, samples) in sizes.items():
        if asked.only in (None, number):
            with tempfile.TemporaryDirectory() as scratch:
                columns.append((shards, samples, measured(World(Path(scratch), shards, samples))))
            print(f"measured: {shards:,} shards of {samples:,} pairs", flush=True)
    print(f"\n{'':34}" + "".join(f"{shards:>15,} shards" for shards, _, _ in columns))
    print(f"{'':34}" + "".join(f"{shards * samples:>16,} pairs" for shards, samples, _ in columns))
    for name in ROWS:
        cells = [f"{found[name][0]:>9.2f} s{found[name][1]:>7,.0f} MiB" for _, _, found in columns]
        print(f"{name:34}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
