"""The loader: step → the same batch for ever, with or without workers, caches and broken samples."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from shard_world import sample, write_shard

from ablative.study.core.errors import AblateError, DataError
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.images import crops, streams
from ablative.trainer.clip.data.images.crops import Crops, boxes, crop_squares
from ablative.trainer.clip.data.pairs import loader, workers
from ablative.trainer.clip.data.pairs.batch import Batch, to_pixels
from ablative.trainer.clip.data.pairs.loader import Loader
from ablative.trainer.clip.data.pairs.pairs import Pairs, Views
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.sources import open_pairs
from ablative.trainer.clip.spec.config import DataConfig

SIZE = 16
GOLDEN_ORDER = [41, 49, 11, 36, 15, 18, 6, 4, 35, 44, 31, 7, 5, 42, 8, 39]
GOLDEN_PERMUTATION = [4, 2, 0, 1, 3]


class Numbered:
    """Pairs whose image and caption tell their number; those in `bad` cannot be read."""

    native_size = SIZE
    fingerprint = "numbered"
    by_epoch = False

    def __init__(self, number: int, bad: tuple[int, ...] = ()) -> None:
        self.number, self.bad, self.reads = number, bad, 0

    def __len__(self) -> int:
        return self.number

    def image(self, i: int) -> np.ndarray:
        return np.full((SIZE, SIZE, 3), i, np.uint8)

    def caption(self, i: int) -> str:
        return f"number {i}"

    def views(
        self,
        indices: np.ndarray,
        size: int,
        crops: Crops | None,
        further: Sequence[Crops] = (),
        chosen: np.ndarray | None = None,
        into: np.ndarray | None = None,
    ) -> Views:
        self.reads += len(indices)
        used = [
            next(j % self.number for j in range(i, i + self.number) if j % self.number not in self.bad) for i in indices
        ]
        broken = tuple((int(i), f"sample {i} is no image") for i in indices if i in self.bad)
        images = np.empty((1, len(used), size, size, 3), np.uint8) if into is None else into
        images[0] = np.stack([self.image(i) for i in used])
        return Views(images[0], [self.caption(i) for i in used], broken)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return streams.permutation(streams.stream("test", seed, epoch), self.number)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    words = [f"number {i}" for i in range(200)]
    return Tokenizer.fit([*words, "a red circle", "caption thing"], 300, 8)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    home = Home(tmp_path_factory.mktemp("home"))
    return open_pairs(DataConfig(name="shapes", kind="shapes", pairs=50), SIZE, home)


def load(pairs: Pairs, tokenizer: Tokenizer, batch_size: int = 16, **options: Any) -> Loader:
    given = {"image_size": SIZE, "seed": 0, "crop_scale": 1.0, **options}
    return Loader(pairs, tokenizer, batch_size=batch_size, **given)


def numbers(batch: Batch) -> list[int]:
    """Which samples of `Numbered` a batch holds."""
    return batch.images[:, 0, 0, 0].tolist()


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.images, second.images) and torch.equal(first.tokens, second.tokens)


def steps(batches: Iterator[Batch]) -> list[Batch]:
    return list(batches)


# ---- which samples


def test_every_epoch_has_every_sample_once(tokenizer: Tokenizer) -> None:
    line = [i for batch in load(Numbered(50), tokenizer).batches(0, 25) for i in numbers(batch)]
    epochs = [line[start : start + 50] for start in range(0, 400, 50)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_images_and_captions_belong_together(tokenizer: Tokenizer) -> None:
    for batch in load(Numbered(50), tokenizer).batches(0, 5):
        expected = tokenizer([f"number {i}" for i in numbers(batch)])
        assert batch.tokens.dtype == torch.int64 and np.array_equal(batch.tokens.numpy(), expected)
        assert batch.images.shape == (16, SIZE, SIZE, 3) and batch.images.is_contiguous()


def test_another_seed_is_another_order(tokenizer: Tokenizer) -> None:
    first, second = (numbers(next(load(Numbered(50), tokenizer, seed=seed).batches(0, 1))) for seed in (0, 1))
    assert first != second


def test_indices_are_what_batches_hold(tokenizer: Tokenizer) -> None:
    one = load(Numbered(50), tokenizer)
    for step, batch in enumerate(one.batches(0, 9)):
        assert one.indices(step).tolist() == numbers(batch)


@pytest.mark.parametrize("crop_scale", [1.0, 0.3])
@pytest.mark.parametrize("cached", [True, False])
def test_resuming_anywhere_gives_the_same_batches(
    shapes: Pairs, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, crop_scale: float, cached: bool
) -> None:
    whole = steps(load(shapes, tokenizer, crop_scale=crop_scale).batches(0, 8))
    if not cached:
        monkeypatch.setattr(loader, "CACHE_BYTES", 0)
    for start in range(8):
        resumed = steps(load(shapes, tokenizer, crop_scale=crop_scale).batches(start, 8 - start))
        assert len(resumed) == 8 - start
        assert all(same(a, b) for a, b in zip(resumed, whole[start:], strict=True))


def test_order_is_the_same_for_ever(tokenizer: Tokenizer, shapes: Pairs) -> None:
    assert load(shapes, tokenizer).indices(0).tolist() == GOLDEN_ORDER
    assert streams.permutation(streams.stream("order", 0, 0), 5).tolist() == GOLDEN_PERMUTATION


def test_later_epochs_come_from_memory(tokenizer: Tokenizer) -> None:
    pairs = Numbered(48)
    assert len(steps(load(pairs, tokenizer).batches(0, 9))) == 9
    assert pairs.reads == 48


def test_no_steps_are_no_batches(tokenizer: Tokenizer) -> None:
    assert steps(load(Numbered(50), tokenizer).batches(3, 0)) == []


def test_batches_larger_than_the_data(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="batch_size 16 is larger than the data: 15 pairs"):
        load(Numbered(15), tokenizer)


# ---- broken samples


@pytest.mark.parametrize("cached", [True, False])
def test_broken_samples_are_replaced_and_counted(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    if not cached:
        monkeypatch.setattr(loader, "CACHE_BYTES", 0)
    one = load(Numbered(64, bad=(7, 8)), tokenizer, max_broken=0.05)
    line = [i for batch in one.batches(0, 8) for i in numbers(batch)]
    assert one.broken == 2
    assert line.count(9) == 6 and not {7, 8} & set(line) and len(line) == 128


def test_too_many_broken_samples(tokenizer: Tokenizer) -> None:
    one = load(Numbered(64, bad=(7, 8)), tokenizer, max_broken=0.02)
    with pytest.raises(DataError, match=r"2 of 64 pairs cannot be read.*max_broken \(0\.02\).*sample . is no image"):
        steps(one.batches(0, 4))


# ---- workers


def test_workers_change_nothing(shapes: Pairs, tokenizer: Tokenizer) -> None:
    alone = steps(load(shapes, tokenizer, crop_scale=0.5).batches(2, 7))
    shared = steps(load(shapes, tokenizer, crop_scale=0.5, workers=2).batches(2, 7))
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert multiprocessing.active_children() == []


def test_a_large_batch_is_read_by_all_workers(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of four, the last of two, which go through their slots again and again."""
    monkeypatch.setattr(workers, "CHUNK", 4)
    samples = [sample(i) for i in range(40)]
    samples[7]["png"] = b"no image"
    write_shard(tmp_path / "a.tar", samples)
    data = DataConfig(name="own", kind="shards", path=str(tmp_path / "a.tar"))
    pairs = open_pairs(data, SIZE, Home(tmp_path / "home"))
    alone, shared = (load(pairs, tokenizer, 18, workers=n, crop_scale=0.5, max_broken=0.1) for n in (0, 2))
    assert all(same(a, b) for a, b in zip(alone.batches(0, 9), shared.batches(0, 9), strict=True))
    assert list(alone.reasons) == list(shared.reasons) == [7]
    assert shared_memory() == []


def test_each_epoch_chooses_among_the_captions_of_a_sample(tmp_path: Path) -> None:
    """A function of seed, epoch and sample: the same in batches of any size, from any step on and from workers, and
    without a caption that no sample ever has. One image has a single caption, and the first mode takes the first."""
    texts = [[f"{i} {word}" for word in ("one", "two", "three")[: 1 if i == 5 else 3]] for i in range(30)]
    write_shard(tmp_path / "a.tar", [sample(i, texts=each) for i, each in enumerate(texts)])
    fitted, home = Tokenizer.fit([text for each in texts for text in each], 300, 8), Home(tmp_path / "home")
    data = DataConfig(name="own", kind="shards", path=str(tmp_path / "a.tar"), caption="json.texts")
    words = {tuple(fitted([text])[0].tolist()): text for each in texts for text in each}

    def epochs(data: DataConfig, batch_size: int, steps: range, **options: Any) -> list[tuple[int, int, str]]:
        one = load(open_pairs(data, SIZE, home), fitted, batch_size, **options)
        batches = one.batches(steps.start, len(steps))
        return [
            ((step * batch_size + row) // 30, int(i), words[tuple(batch.tokens[row].tolist())])
            for step, batch in zip(steps, batches, strict=True)
            for row, i in enumerate(one.indices(step))
        ]

    assert {text.split()[1] for _, _, text in epochs(data, 10, range(9))} == {"one"}
    data = dataclasses.replace(data, captions="epoch")
    chosen = epochs(data, 12, range(25))  # 10 epochs
    assert all(text.startswith(f"{i} ") for _, i, text in chosen)
    assert [text for _, i, text in chosen if i == 5] == ["5 one"] * 10
    counts = Counter(text.split()[1] for _, i, text in chosen if i != 5)
    assert all(70 < count < 125 for count in counts.values()) and len(counts) == 3
    assert len({tuple(text for _, own, text in chosen if own == i) for i in range(30)}) == 30
    assert sorted(epochs(data, 15, range(20))) == sorted(chosen)
    assert epochs(data, 12, range(17, 25), workers=1, crop_scale=0.5) == chosen[17 * 12 :]
    assert sorted(epochs(data, 12, range(25), seed=1)) != sorted(chosen)


def shared_memory() -> list[str]:
    """What this process still holds of it."""
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if link.is_symlink()]
    mapped = Path("/proc/self/maps").read_text().splitlines()
    return [text for text in (*targets, *mapped) if "ablate-loader" in text]


def test_workers_read_shards_and_report_what_is_broken(tmp_path: Path, tokenizer: Tokenizer) -> None:
    samples = [sample(i) for i in range(20)]
    samples[5]["png"] = b"no image"
    write_shard(tmp_path / "a.tar", samples)
    data = DataConfig(name="own", kind="shards", path=str(tmp_path / "a.tar"))
    pairs = open_pairs(data, SIZE, Home(tmp_path / "home"))
    alone, shared = (load(pairs, tokenizer, batch_size=10, workers=n, crop_scale=0.5, max_broken=0.1) for n in (0, 1))
    assert all(same(a, b) for a, b in zip(alone.batches(0, 4), shared.batches(0, 4), strict=True))
    assert alone.broken == shared.broken == 1
    strict = load(pairs, tokenizer, batch_size=10, workers=1)
    with pytest.raises(DataError, match=r"1 of 20 pairs cannot be read"):
        steps(strict.batches(0, 4))
    assert multiprocessing.active_children() == []


def test_leaving_early_ends_the_workers(shapes: Pairs, tokenizer: Tokenizer) -> None:
    batches = load(shapes, tokenizer, workers=1).batches(0, 100)
    next(batches)
    assert multiprocessing.active_children()
    batches.close()
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_an_error(shapes: Pairs, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "CACHE_BYTES", 0)
    batches = load(shapes, tokenizer, workers=1).batches(0, 1000)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGTERM)  # a scheduler's warning: workers leave it to the training process
    next(batches)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(AblateError, match="a loader process died"):
        steps(batches)
    assert multiprocessing.active_children() == []


def test_workers_never_outlive_a_killed_training(tmp_path: Path) -> None:
    script = tmp_path / "training.py"
    script.write_text(
        "import multiprocessing, time\n"
        "import numpy as np\n"
        "from ablative.trainer.clip.spec.config import DataConfig\n"
        "from ablative.trainer.clip.data.world.shapes import ShapePairs\n"
        "from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer\n"
        "from ablative.trainer.clip.data.pairs.workers import Asked, Workers\n"
        "if __name__ == '__main__':\n"
        "    pairs = ShapePairs(DataConfig(name='s', kind='shapes', pairs=9), 16)\n"
        "    tokenizer = Tokenizer.fit([pairs.caption(i) for i in range(9)], 300, 8)\n"
        "    with Workers(pairs, tokenizer, 1, rows=9, size=16) as workers:\n"
        "        workers.result(workers.submit(np.arange(9), Asked()))\n"
        "        print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "        time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True
    ) as training:
        assert training.stdout is not None
        worker = int(training.stdout.readline())
        training.kill()
    deadline = time.monotonic() + 20
    while alive(worker):
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ---- crops


def keys(number: int) -> np.ndarray:
    return streams.keys(streams.stream("crops", 0), np.arange(number))


def test_crop_boxes_keep_to_area_and_ratio() -> None:
    width, height = np.full(4000, 640), np.full(4000, 480)
    box = boxes(Crops(keys(4000), 0.2), width, height)
    w, h = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    assert box.min() >= 0 and box[:, 2].max() <= 640 and box[:, 3].max() <= 480
    area, ratio = w * h / (640 * 480), w / h
    assert area.min() >= 0.2 - 1e-9 and area.max() <= 1 and ratio.min() >= 3 / 4 - 1e-9 and ratio.max() <= 4 / 3 + 1e-9
    # Areas are uniform in [0.2, 1] before those that do not fit are drawn again; small ones always fit.
    assert 0.45 < area.mean() < 0.62
    assert abs((box[:, 0] / (640 - w)).mean() - 0.5) < 0.02
    square = boxes(Crops(keys(4000), 0.2), height, height)
    assert abs(np.log((square[:, 2] - square[:, 0]) / (square[:, 3] - square[:, 1])).mean()) < 0.02


def test_a_crop_that_cannot_fit_is_central() -> None:
    box = boxes(Crops(keys(1), 1.0), np.array([1000]), np.array([100]))[0]
    np.testing.assert_allclose(box, [500 - 200 / 3, 0, 500 + 200 / 3, 100])


def test_crops_agree_with_pillow() -> None:
    generator = np.random.default_rng(0)
    # Smooth images: at hard edges the two round positions differently.
    small = generator.integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in small])
    wanted = Crops(keys(6), 0.2)
    side = np.full(6, 32)
    for image, found, box in zip(images, crop_squares(images, wanted), boxes(wanted, side, side), strict=True):
        expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR, box=tuple(box))
        assert np.abs(np.asarray(expected).astype(int) - found).max() <= 2


def test_a_whole_crop_changes_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    whole = np.tile([0.0, 0.0, 20.0, 20.0], (3, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crops, "boxes", lambda *_: whole)
        np.testing.assert_array_equal(crop_squares(images, Crops(keys(3), 0.5)), images)


def test_cropped_samples_differ_between_epochs(shapes: Pairs, tokenizer: Tokenizer) -> None:
    one = load(shapes, tokenizer, batch_size=50, crop_scale=0.5)
    first, second = one.batches(0, 2)
    places = [{int(i): row for row, i in enumerate(one.indices(step))} for step in (0, 1)]
    assert not torch.equal(first.images[places[0][7]], second.images[places[1][7]])
    assert torch.equal(first.tokens[places[0][7]], second.tokens[places[1][7]])


# ---- batches


def test_pixels_become_numbers_between_minus_one_and_one() -> None:
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 0, 1] = (255, 51, 0)
    tensor = to_pixels(images)
    assert tensor.shape == (1, 3, 2, 2) and tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[0, :, 0, 1], torch.tensor([1.0, -0.6, -1.0]))
    assert (tensor[0, :, 1] == -1).all()
