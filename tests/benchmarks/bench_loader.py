"""Training batches from shards: samples per CPU second of the whole loader, against webdataset and open_clip.

    python tests/benchmarks/bench_loader.py [--rounds 3] [--sides 256 512 1024] [--samples 256]

Every contestant makes the same batches of 64: images cropped at random (at least half of the area) to 224 × 224 and
captions as 77 tokens, in one process without loader processes, in turns; the figure is from the best CPU time of the
rounds, so that a shared machine disturbs it little. webdataset decodes, crops and resizes with Pillow; open_clip is its
training pipeline, which ends in normalised floats, the others in the bytes that are sent to a GPU. Each side is that of
JPEGs of 4 : 3, as img2dataset keeps them. The last line of a side is ours with a loader process, of both processes
together. About three minutes.

Version 0.1.0 (c61c1ad) on two busy cores, ours / webdataset / open_clip: 256 pixels 604 / 585 / 319, 512 pixels
290 / 280 / 181, 1024 pixels 122 / 106 / 93. This benchmark's first commit in the same hours: 541 / 583 / 285,
308 / 267 / 184 and 111 / 96 / 81, with `data.decoding=reduced` 187 at 1024.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import tarfile
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image

from ablative.study.home.paths import Home
from ablative.trainer.clip.data.pairs.loader import Loader
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.spec.config import DataConfig

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracles import oracle

BATCH, SIZE, SMALLEST = 64, 224, 0.5
CAPTION = "a photo of something that lies on a table in front of a window"
Batches = Callable[[], int]
"""Makes the batches of an epoch and returns how many samples they have."""


def make_shards(folder: Path, side: int, samples: int) -> list[Path]:
    """Two shards of JPEGs of 4 : 3, the longer side `side`: smooth shapes with the grain of a photograph."""
    generator, files = np.random.default_rng(side), [folder / f"{side}-{number}.tar" for number in range(2)]
    for file in files:
        with tarfile.open(file, "w") as tar:
            for number in range(samples // 2):
                small = Image.fromarray(generator.integers(0, 256, (18, 24, 3), dtype=np.uint8))
                smooth = np.asarray(small.resize((side, side * 3 // 4), Image.Resampling.BICUBIC), np.int16)
                grain = generator.normal(0, 6, smooth.shape[:2])[..., None].astype(np.int16)
                buffer = io.BytesIO()
                Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
                for suffix, content in (("jpg", buffer.getvalue()), ("txt", CAPTION.encode())):
                    member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return files


def ours(pairs: ShardPairs, tokenizer: Tokenizer, workers: int = 0) -> Loader:
    return Loader(pairs, tokenizer, BATCH, SIZE, seed=0, crop_scale=SMALLEST, workers=workers)


def webdataset_and_pillow(files: list[Path], tokenizer: Tokenizer) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What people write: decode, crop by a box and resize with Pillow, stack."""
    generator = np.random.default_rng(0)
    names = [str(file) for file in files]
    stream = webdataset.WebDataset(names, shardshuffle=2, empty_check=False).shuffle(1000).decode("pil")
    images, captions = [], []
    for sample in stream.to_tuple("jpg", "txt"):
        picture, caption = sample
        width, height = picture.size
        share = np.sqrt(generator.uniform(SMALLEST, 1))
        w, h = share * width, share * height
        left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
        box = (left, top, left + w, top + h)
        images.append(np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)))
        captions.append(caption)
        if len(images) == BATCH:
            yield torch.from_numpy(np.stack(images)), torch.from_numpy(tokenizer(captions))
            images, captions = [], []


def open_clip_loader(files: list[Path], samples: int) -> Any:
    """open_clip's training pipeline on the same shards, with its transforms and tokenizer."""
    open_clip = oracle("open_clip")
    data = oracle("open_clip_train.data")
    # open_clip's own stumbles over the marks that webdataset 1.0 puts between shards.
    data.group_by_keys_nothrow = webdataset.tariterators.group_by_keys
    crop = open_clip.transform.AugmentationCfg(scale=(SMALLEST, 1.0))
    transform = open_clip.image_transform(SIZE, is_train=True, aug_cfg=crop)
    wanted = Namespace(
        train_data="::".join(map(str, files)), train_num_samples=samples, dataset_resampled=False, seed=0,
        batch_size=BATCH, workers=0, world_size=1, train_data_upsampling_factors=None,
    )  # fmt: skip
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    return data.get_wds_dataset(wanted, transform, is_train=True, tokenizer=tokenizer).dataloader


def cpu_seconds() -> float:
    """Of this process and its living children."""
    ticks = 0
    for pid in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def with_a_process(loader: Loader, steps: int) -> float:
    """Samples per CPU second of both processes, once the first batch is there."""
    batches = loader.batches(0, steps + 1)
    next(batches)
    begin = cpu_seconds()
    samples = sum(len(batch) for batch in islice(batches, steps))
    rate = samples / (cpu_seconds() - begin)
    batches.close()
    return rate


def compare(files: list[Path], home: Home, samples: int, rounds: int) -> None:
    """Print the rates on shards of one side."""
    pairs = ShardPairs(DataConfig(name="bench", kind="shards"), home, files)
    smaller = ShardPairs(DataConfig(name="bench", kind="shards", decoding="reduced"), home, files)
    tokenizer = Tokenizer.fit([pairs.caption(i) for i in range(50)], 512, 77)
    steps = samples // BATCH
    theirs = open_clip_loader(files, samples)
    contestants: dict[str, Batches] = {
        "ours": lambda: sum(len(batch) for batch in ours(pairs, tokenizer).batches(0, steps)),
        "ours, data.decoding=reduced": lambda: sum(len(batch) for batch in ours(smaller, tokenizer).batches(0, steps)),
        "webdataset and Pillow": lambda: sum(len(images) for images, _ in webdataset_and_pillow(files, tokenizer)),
        "open_clip": lambda: sum(len(images) for images, _ in theirs),
    }
    rates = dict.fromkeys(contestants, 0.0)
    for _ in range(rounds):
        for name, work in contestants.items():
            begin = time.process_time()
            made = work()
            rates[name] = max(rates[name], made / (time.process_time() - begin))
    for name, rate in rates.items():
        print(f"  {name:<32}{rate:8,.0f} samples per CPU second, {rates['ours'] / rate:5.2f} of it ours")
    print(f"  {'ours, a loader process':<32}{with_a_process(ours(pairs, tokenizer, 1), 2 * steps):8,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--samples", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for side in given.sides:
            print(f"{side} × {side * 3 // 4}:")
            files = make_shards(Path(scratch), side, given.samples)
            compare(files, Home(Path(scratch) / "home"), given.samples, given.rounds)


if __name__ == "__main__":
    main()
