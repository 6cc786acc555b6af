"""A frozen model as protocols see it: features of images, embeddings of texts; image features are computed once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablative.study.core.files import write_atomic
from ablative.study.core.identity import canonical, identity
from ablative.study.core.packages import sources_digest
from ablative.study.home.paths import RunPaths
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.sets.evaluation import Split
from ablative.trainer.clip.data.world.shapes import OCCLUDED, manner
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.protocols.parts.reading import read_ahead
from ablative.trainer.clip.protocols.parts.row_store import gathered
from ablative.trainer.clip.protocols.parts.similarity import distinct_rows
from ablative.trainer.clip.spec.config import DatasetConfig, RunConfig

BATCH = 256
"""Images, or texts, of one forward pass."""

DIGEST_BYTES = 32
"""SHA-256 in front of a cached array."""


@dataclass(frozen=True)
class Representation:
    """A trained system with the place where its features are cached."""

    system: System
    tokenizer: Tokenizer
    config: RunConfig
    paths: RunPaths
    """Where features are cached."""
    device: torch.device

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what turns pixels into features: code, model configuration and every weight."""
        state = hashlib.sha256(code_fingerprint().encode())
        state.update(canonical(identity(self.config.model)).encode())
        for name, weight in sorted(self.system.state_dict().items()):
            state.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
            state.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return state.hexdigest()

    def image_features(
        self, dataset: DatasetConfig, content: str, name: str, split: Split, kind: str, tap: int = 0
    ) -> np.ndarray:
        """float32 (n, D) of a split's images, from the cache where it is whole.

        Args:
            dataset: which images.
            content: fingerprint of the data set's content.
            name: "train" or "test".
            kind: "pooled", "projected" or "mean" as in `System.image_features`, like `tap`.
        """
        key = canonical(
            {
                "model": self.fingerprint,
                "dataset": images_of(dataset),
                "content": content,
                "split": name,
                "size": len(split),
                "kind": f"{kind} {tap}" if tap else kind,
                # Rounding differs between devices and precisions.
                "device": self.device.type,
                "bf16": self.bf16,
            }
        )
        path = self.paths.feature(hashlib.sha256(key.encode()).hexdigest()[:32])
        features = load_array(path)
        if features is None or len(features) != len(split):
            features = self.forward_images(split, lambda images: self.system.image_features(images, kind, tap))
            save_array(path, features)
        return features

    def image_embeddings(self, dataset: DatasetConfig, content: str, name: str, split: Split) -> np.ndarray:
        """L2-normalised float32 (n, E) in the joint space, by way of the cache."""
        return self.image_features(dataset, content, name, split, "projected")

    def text_embeddings(self, texts: list[str]) -> np.ndarray:
        """L2-normalised float32 (n, E); texts that tokenize alike have bit-identical rows.

        Every distinct token sequence is encoded once: a text's place in its batch changes the last bits,
        and two indistinguishable texts would then not tie.
        """
        tokens, place = distinct_rows(np.asarray(self.tokenizer(texts)))
        with self._inference():
            rows = [
                self.system.encode_text(torch.from_numpy(tokens[start : start + BATCH]).to(self.device)).float().cpu()
                for start in range(0, len(tokens), BATCH)
            ]
        return torch.cat(rows).numpy()[place]

    def image_tokens(self, split: Split) -> np.ndarray:
        """(n, N, D) of a split's images after the final LayerNorm, float16 where training was bf16; never cached."""
        kind = np.float16 if self.bf16 else np.float32

        def blocks() -> Iterator[np.ndarray]:
            for images in self._batches(split, BATCH):
                with self._inference():
                    tokens = self.system.image_tokens(images)
                yield tokens.float().cpu().numpy().astype(kind, copy=False)

        return gathered(blocks(), len(split), self.paths.features)

    def text_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """float32 (B, L, d) of tokens int64 (B, L), both on the device, after the final LayerNorm.

        The model must have a text tower.
        """
        with self._inference():
            return self.system.text_tokens(tokens).float()

    def patch_embeddings(self, split: Split, batch: int, kind: str = "tokens") -> Iterator[torch.Tensor]:
        """`patches` of successive images; never cached, as it is N times the size."""
        for images in self._batches(split, batch):
            yield self.patches(images, kind)

    def patches(self, images: torch.Tensor, kind: str = "tokens") -> torch.Tensor:
        """L2-normalised float32 (B, N, E) of images (B,3,S,S) on the device; `kind` as in `System.patch_embeddings`."""
        with self._inference():
            return self.system.patch_embeddings(images, kind).float()

    @property
    def bf16(self) -> bool:
        """Evaluate in the precision of training; on a CPU bf16 saves nothing, so there it is float32."""
        return self.device.type == "cuda" and self.config.schedule.precision == "bf16"

    def forward_images(self, split: Split, function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        """float32 (n, …): a function of the images, batch by batch, without gradient and in the run's precision."""
        with self._inference():
            return torch.cat([function(images).float().cpu() for images in self._batches(split, BATCH)]).numpy()

    def _batches(self, split: Split, size: int) -> Iterator[torch.Tensor]:
        for images in images_in_blocks(split, size, self.config.runtime.workers):
            yield to_pixels(images, self.device)

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield


def images_in_blocks(split: Split, size: int, threads: int = 0) -> Iterator[np.ndarray]:
    """uint8 (B, S, S, 3) of successive images; so many `threads` read and decode the next blocks meanwhile."""

    def read(start: int) -> np.ndarray:
        return np.stack([split.images(i) for i in range(start, min(start + size, len(split)))])

    yield from read_ahead(read, range(0, len(split), size), threads)


def images_of(dataset: DatasetConfig) -> dict[str, Any]:
    """What of a data set's configuration determines its images, apart from content, split and number of samples.

    The procedural world shows the same scenes for all tasks of one manner, so that a run's seven probes need three
    sets of features.
    """
    if dataset.kind == "shapes":
        shown = OCCLUDED if dataset.task == OCCLUDED else manner(dataset.task)
        return {"kind": dataset.kind, "seed": dataset.seed, "manner": shown, "split": dataset.split}
    return {
        key: value
        for key, value in identity(dataset).items()
        if key not in ("name", "templates", "caption", "max_captions", "classes", "bins", "short_side", "long_side")
    }


@functools.cache
def code_fingerprint() -> str:
    """SHA-256 of the sources that turn pixels into features: mended code must not be served old features."""
    return sources_digest(
        ("ablative.trainer.clip.data", "ablative.trainer.clip.models", "ablative.trainer.clip.objectives")
    )


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a checksum and the array in one step: two evaluations that do so at once both leave a whole file."""
    buffer = io.BytesIO()
    buffer.write(bytes(DIGEST_BYTES))
    np.save(buffer, array, allow_pickle=False)
    content = buffer.getbuffer()
    content[:DIGEST_BYTES] = hashlib.sha256(content[DIGEST_BYTES:]).digest()
    write_atomic(path, bytes(content))


def load_array(path: Path) -> np.ndarray | None:
    """The array at `path`, or None where there is none or not all of it (a full disk, a torn copy)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    payload = memoryview(content)[DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != content[:DIGEST_BYTES]:
        return None
    return np.load(io.BytesIO(payload), allow_pickle=False)
