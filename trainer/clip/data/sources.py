"""Opens what a configuration names: the pairs to train on, and the sets to evaluate on with their fingerprint."""

from __future__ import annotations

from ablative.study.core.errors import ConfigError, DataError, unknown
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.fingerprints import fingerprint, open_file_set
from ablative.trainer.clip.data.pairs.pairs import Pairs
from ablative.trainer.clip.data.questions.shape_questions import TASKS, ShapeQuestions
from ablative.trainer.clip.data.sets.clip_benchmark import ClipBenchmarkSet
from ablative.trainer.clip.data.sets.digits import DigitSet, fingerprint_digits
from ablative.trainer.clip.data.sets.evaluation import EvaluationSet
from ablative.trainer.clip.data.sets.holdout import HoldOut
from ablative.trainer.clip.data.sets.labelled_shards import ShardSet
from ablative.trainer.clip.data.shards.shards import ShardPairs
from ablative.trainer.clip.data.world.shapes import ShapePairs, ShapeSet, fingerprint_shapes
from ablative.trainer.clip.spec.config import DataConfig, DatasetConfig
from ablative.trainer.clip.spec.dataset_kinds import DATASET_KINDS, FILE_SETS


def open_pairs(data: DataConfig, image_size: int, home: Home) -> Pairs:
    """The training pairs that a configuration names; shards are indexed on first use.

    Args:
        image_size: side in pixels at which the procedural world is drawn.
        home: where indexes are cached.

    Raises:
        DataError: missing, truncated or unusable data, or fewer samples than `pairs` asks for.
    """
    if data.kind == "shapes":
        return ShapePairs(data, image_size)
    if data.kind == "shards":
        return ShardPairs(data, home)
    raise DataError(f"data.kind: '{data.kind}' has no pairs (allowed: shapes, shards)")


def open_dataset(dataset: DatasetConfig, image_size: int, home: Home) -> EvaluationSet:
    """The evaluation set that a configuration names, at images of `image_size` pixels.

    Where its `split` is validation, `test` holds samples that no report touches. Raises DataError: missing or broken
    data, unknown task, more samples asked for than there are.
    """
    if dataset.kind == "shapes":
        return ShapeQuestions(dataset, image_size) if dataset.task in TASKS else ShapeSet(dataset, image_size)
    if dataset.kind == "digits":
        return _as_split(dataset, DigitSet(dataset, image_size))
    if dataset.kind == "shards":
        return _as_split(dataset, ShardSet(dataset, image_size, home))
    return _open_published(dataset, image_size, home)


def _as_split(dataset: DatasetConfig, found: EvaluationSet) -> EvaluationSet:
    return found if dataset.split == "test" else HoldOut(found)


def _open_published(dataset: DatasetConfig, image_size: int, home: Home) -> EvaluationSet:
    """Sets in the layouts in which they are published."""
    if dataset.split != "test":
        raise ConfigError(f"data set {dataset.name}: kind '{dataset.kind}' holds no {dataset.split} split back")
    if dataset.kind == "clip_benchmark":
        return ClipBenchmarkSet(dataset, image_size, home)
    if dataset.kind not in FILE_SETS:
        raise DataError(unknown("data set kind", dataset.kind, DATASET_KINDS))
    return open_file_set(dataset, image_size)


def fingerprint_dataset(dataset: DatasetConfig, home: Home) -> str:
    """Fingerprint of an evaluation set's content: hexadecimal digits."""
    if dataset.kind == "shapes":
        return fingerprint_shapes(dataset.seed)
    if dataset.kind == "digits":
        return fingerprint_digits()
    return fingerprint(dataset, home)
