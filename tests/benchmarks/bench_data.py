"""Images a second of one core: the procedural world, and shards against webdataset with Pillow.

    python tests/benchmarks/bench_data.py [--rounds 5] [--shards PATTERN] [--size 64]

Contestants take turns in one process, and each figure is from the best CPU time of the rounds, so that a shared
machine disturbs it little. Shards are made for the occasion (2,000 JPEGs of 256×256), or those of PATTERN. Expect
more than 3,000 drawn images of 32×32 a second, and at least webdataset's rate from shards. Then what images that
workers read cost the training process, which has a GPU to keep busy: a third of what they would through a pipe.
About two minutes.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images.crops import Crops
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.data.pairs.loader import Loader
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.data.sources import open_pairs
from ablative.trainer.clip.spec.config import DataConfig

BATCH = 100
SAMPLES = 2000


def best(contestants: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Samples a CPU second of each; a contestant does its work and returns how many samples that were."""
    rates = dict.fromkeys(contestants, 0.0)
    for _ in range(rounds):
        for name, work in contestants.items():
            begin = time.process_time()
            samples = work()
            rates[name] = max(rates[name], samples / (time.process_time() - begin))
    return rates


def shapes(home: Home, size: int) -> dict[str, Callable[[], int]]:
    """Drawn images, whole training batches, and batches of an epoch that is in memory."""
    pairs = open_pairs(DataConfig(name="shapes", kind="shapes", pairs=SAMPLES), size, home)
    tokenizer = Tokenizer.fit([pairs.caption(i) for i in range(500)], 512, 16)

    def batches(loader: Loader) -> int:
        return sum(len(batch) for batch in loader.batches(0, SAMPLES // BATCH))

    def fresh(crop_scale: float) -> Loader:
        return Loader(pairs, tokenizer, BATCH, size, seed=0, crop_scale=crop_scale)

    warm = fresh(1.0)
    batches(warm)
    return {
        f"shapes {size}×{size}, images and captions": lambda: len(pairs.views(np.arange(SAMPLES), size, None).images),
        f"shapes {size}×{size}, batches, first epoch": lambda: batches(fresh(1.0)),
        f"shapes {size}×{size}, batches, cropped": lambda: batches(fresh(0.5)),
        f"shapes {size}×{size}, batches, from memory": lambda: batches(warm),
    }


def shards(files: list[Path], home: Home, size: int) -> dict[str, Callable[[], int]]:
    """The same samples, decoded and resized, one after another; ours in a shuffled order."""
    pairs = ShardPairs(DataConfig(name="bench", kind="shards"), home, files)
    samples = min(SAMPLES, len(pairs))

    def ours() -> int:
        order = pairs.order(0, 0)[np.arange(samples)]
        for start in range(0, samples, BATCH):
            to_pixels(pairs.views(order[start : start + BATCH], size, None).images)
        return samples

    def theirs() -> int:
        names = [f"pipe:gzip -dc {file}" if file.suffix == ".gz" else str(file) for file in files]
        stream = webdataset.WebDataset(names, shardshuffle=False, empty_check=False).decode("pil")
        images = []
        for _, sample in zip(range(samples), stream, strict=False):
            picture = next(value for value in sample.values() if isinstance(value, Image.Image))
            images.append(np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)))
            if len(images) == BATCH:
                to_pixels(np.stack(images))
                images = []
        return samples

    return {"shards, ours": ours, "shards, webdataset and Pillow": theirs}


def handed_over(files: list[Path], home: Home, rounds: int) -> dict[str, float]:
    """CPU milliseconds of this process for 1,000 cropped samples of 224×224 that two others read."""
    pairs = ShardPairs(DataConfig(name="bench", kind="shards"), home, files)
    tokenizer = Tokenizer.fit([pairs.caption(i) for i in range(50)], 512, 77)
    size, steps = 250, 8
    loader = Loader(pairs, tokenizer, size, 224, seed=0, crop_scale=0.5, workers=2)
    best = {"in shared memory": float("inf"), "through a pipe": float("inf")}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(pairs.views, np.arange(1), 224, None).result()
        for _ in range(rounds):
            batches = loader.batches(0, steps + 1)
            next(batches)
            begin = time.process_time()
            samples = sum(len(batch) for batch in batches)
            best["in shared memory"] = min(best["in shared memory"], (time.process_time() - begin) / samples)
            begin = time.process_time()
            wanted = [loader.indices(step) for step in range(steps)]
            crops = [Crops(np.arange(size, dtype=np.uint64), 0.5)] * steps
            for views in pool.map(pairs.views, wanted, [224] * steps, crops):
                tokenizer(views.captions)
            best["through a pipe"] = min(best["through a pipe"], (time.process_time() - begin) / samples)
    return {name: 1e6 * seconds for name, seconds in best.items()}


def make_shards(folder: Path) -> list[Path]:
    """Two shards of photograph-like JPEGs with captions."""
    generator = np.random.default_rng(0)
    files = [folder / f"{number:05d}.tar" for number in range(2)]
    for file in files:
        with tarfile.open(file, "w") as tar:
            for number in range(SAMPLES // 2):
                small = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
                for suffix, content in (("jpg", buffer.getvalue()), ("txt", b"a photo of something")):
                    member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shards", default="", help="folder, glob or brace range, instead of shards made here")
    parser.add_argument("--size", type=int, default=64, help="side of the images that shards are resized to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Home(Path(scratch) / "home")
        files = find_shards(arguments.shards, "--shards") if arguments.shards else make_shards(Path(scratch))
        begin = time.perf_counter()
        count = len(ShardPairs(DataConfig(name="bench", kind="shards"), home, files))
        print(f"indexing {count} samples in {len(files)} shards: {time.perf_counter() - begin:.2f} s")
        begin = time.perf_counter()
        ShardPairs(DataConfig(name="bench", kind="shards"), home, files)
        print(f"opening them again: {time.perf_counter() - begin:.3f} s")
        for contestants in (shapes(home, 32), shapes(home, 64), shards(files, home, arguments.size)):
            for name, rate in best(contestants, arguments.rounds).items():
                print(f"{name:<44}{rate:10,.0f} samples/s")
        for name, milliseconds in handed_over(files, home, arguments.rounds).items():
            print(f"1,000 samples from workers, {name:<17}{milliseconds:9,.0f} ms of the training process")


if __name__ == "__main__":
    main()
