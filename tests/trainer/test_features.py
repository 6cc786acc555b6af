"""The feature cache: same numbers, recomputed whenever what determines them changes, safe against torn files."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from protocol_fakes import DATASET, Split, Words, random_split, representation

from ablative.study.core.errors import ConfigError, DataError
from ablative.study.core.identity import canonical
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.data.world.shapes import TASKS, ShapeSet
from ablative.trainer.clip.protocols.parts import features
from ablative.trainer.clip.protocols.parts.features import (
    Representation,
    images_in_blocks,
    images_of,
    load_array,
    save_array,
)
from ablative.trainer.clip.spec.config import DatasetConfig


def read(model: Representation, split: Split, kind: str = "pooled", content: str = "content") -> np.ndarray:
    return model.image_features(DATASET, content, "test", split, kind)


def test_features_are_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 7)
    model, split = representation(tmp_path), random_split(20, 2)
    for kind in ("pooled", "projected", "mean"):
        with torch.no_grad():
            expected = model.system.image_features(to_pixels(split.pixels), kind)
        assert np.allclose(read(model, split, kind), expected.numpy(), atol=1e-5)
    norms = np.linalg.norm(model.image_embeddings(DATASET, "content", "test", split), axis=1)
    assert np.allclose(norms, 1, atol=1e-5)


def test_threads_that_read_ahead_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 7)
    split, model = random_split(40, 2), representation(tmp_path)
    several = replace(model, config=replace(model.config, runtime=replace(model.config.runtime, workers=3)))
    with monkeypatch.context() as patch:
        patch.setattr(features, "load_array", lambda path: None)
        assert np.array_equal(read(several, split), read(model, split))
    assert split.reads == 80
    drawn = ShapeSet(DatasetConfig(name="shapes", kind="shapes", task="shape", test=20), 16).split("test")
    alone, shared = (np.concatenate(list(images_in_blocks(drawn, 6, threads))) for threads in (0, 3))
    assert np.array_equal(alone, shared)


def test_reading_ahead_ends_with_its_reader_and_keeps_errors() -> None:
    split, before = random_split(60, 2), threading.active_count()
    blocks = images_in_blocks(split, 5, 2)
    next(blocks)
    blocks.close()
    assert threading.active_count() == before and split.reads <= 5 * 3

    class Broken:
        def __len__(self) -> int:
            return 9

        def images(self, i: int) -> np.ndarray:
            if i == 7:
                raise DataError("sample 7 is no image")
            return split.images(i)

    with pytest.raises(DataError, match="sample 7"):
        list(images_in_blocks(Broken(), 3, 2))  # type: ignore[arg-type]
    assert threading.active_count() == before


def test_a_hit_gives_identical_numbers_without_reading_an_image(tmp_path: Path) -> None:
    split = random_split(20, 2)
    first = read(representation(tmp_path), split)
    assert split.reads == 20
    again = read(representation(tmp_path), split)
    assert split.reads == 20
    assert np.array_equal(first, again) and again.dtype == np.float32


def test_everything_that_determines_features_is_in_the_key(tmp_path: Path) -> None:
    split = random_split(6, 2)
    model = representation(tmp_path)
    first = read(model, split)
    variants = {
        "weights": lambda: read(representation(tmp_path, seed=1), split),
        "kind": lambda: read(model, split, kind="mean"),
        "content": lambda: read(model, split, content="other"),
        "split": lambda: model.image_features(DATASET, "content", "train", split, "pooled"),
        "samples": lambda: model.image_features(replace(DATASET, test=3), "content", "test", split, "pooled"),
        "seed": lambda: model.image_features(replace(DATASET, seed=1), "content", "test", split, "pooled"),
    }
    for number, (name, variant) in enumerate(variants.items(), start=2):
        variant()
        assert split.reads == 6 * number, f"{name} is not in the key"
    model.image_features(replace(DATASET, templates="imagenet", bins=16), "content", "test", split, "pooled")
    assert split.reads == 6 * (1 + len(variants)), "templates and bins do not change features"
    assert np.array_equal(read(model, split), first)


def test_tasks_of_shapes_share_features_only_where_images_are_the_same() -> None:
    sets = [DatasetConfig(name=task, kind="shapes", task=task, test=70) for task in ("", *TASKS)]
    pixels: dict[str, np.ndarray] = {}
    for dataset in [*sets, replace(sets[0], seed=1)]:
        split = ShapeSet(dataset, 16).split("test")
        images = np.stack([split.images(i) for i in range(len(split))])
        assert np.array_equal(pixels.setdefault(canonical(images_of(dataset)), images), images), dataset.task
    assert len(pixels) == 5, "most tasks, distance and location, orientation, hidden objects, another seed"


def test_one_changed_weight_recomputes(tmp_path: Path) -> None:
    split = random_split(6, 2)
    first = read(representation(tmp_path), split)
    model = representation(tmp_path)
    with torch.no_grad():
        next(iter(model.system.image.parameters())).view(-1)[0] += 1
    assert not np.array_equal(read(model, split), first)
    assert split.reads == 12


def test_changed_code_recomputes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = random_split(6, 2)
    read(representation(tmp_path), split)
    monkeypatch.setattr(features, "code_fingerprint", lambda: "mended")
    read(representation(tmp_path), split)
    assert split.reads == 12


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_torn_cache_is_recomputed(tmp_path: Path, damage: str) -> None:
    split = random_split(6, 2)
    first = read(representation(tmp_path), split)
    [path] = representation(tmp_path).paths.features.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    path.write_bytes({"cut": content[:-40], "flip": content, "empty": b""}[damage])
    assert load_array(path) is None
    assert np.array_equal(read(representation(tmp_path), split), first)
    assert split.reads == 12
    assert np.array_equal(load_array(path), first), "the cache was not mended"


def test_writers_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    path, array = tmp_path / "features" / "key.bin", np.arange(200_000, dtype=np.float32).reshape(-1, 4)
    seen: list[np.ndarray | None] = []

    def write() -> None:
        for _ in range(5):
            save_array(path, array)
            seen.append(load_array(path))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert all(found is not None and np.array_equal(found, array) for found in seen)
    assert [file.name for file in path.parent.iterdir()] == ["key.bin"]


def test_texts_that_tokenize_alike_have_identical_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BATCH", 3)
    model = representation(tmp_path)
    found = model.text_embeddings(["ab c", "x", "ba c", "yy", "z z", "ab c"])
    assert np.array_equal(found[0], found[2]) and np.array_equal(found[0], found[5])
    with torch.no_grad():
        expected = model.system.encode_text(torch.from_numpy(Words()(["ab c", "x", "ba c", "yy", "z z", "ab c"])))
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_no_gradients_and_no_draws(tmp_path: Path) -> None:
    model = representation(tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    read(model, random_split(6, 2))
    model.text_embeddings(["a"])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in model.system.parameters())


def test_mae_has_no_projected_features(tmp_path: Path) -> None:
    model = representation(tmp_path, objective="mae")
    assert read(model, random_split(4, 2)).shape == (4, 32)
    with pytest.raises(ConfigError, match="no joint embedding"):
        read(model, random_split(4, 2), "projected")
