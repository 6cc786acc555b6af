"""Content fingerprint of data that lies in files, as the plan and `ablate data check` give it."""

from __future__ import annotations

import hashlib

from ablative.study.core.errors import ConfigError
from ablative.study.core.registry import load
from ablative.study.home.paths import Home
from ablative.trainer.clip.data.sets import clip_benchmark
from ablative.trainer.clip.data.sets.evaluation import FileSet
from ablative.trainer.clip.data.sets.labelled_shards import CLASSES, check_label, listed_classes
from ablative.trainer.clip.data.sets.set_files import fingerprint_files
from ablative.trainer.clip.data.shards.captions import check_caption
from ablative.trainer.clip.data.shards.selection import subset
from ablative.trainer.clip.data.shards.shard_files import FINGERPRINT_DIGITS, ShardFiles
from ablative.trainer.clip.data.shards.shard_paths import find_shards
from ablative.trainer.clip.data.texts import file_fingerprint
from ablative.trainer.clip.spec.config import DataConfig, DatasetConfig
from ablative.trainer.clip.spec.dataset_kinds import FILE_SETS
from ablative.trainer.clip.spec.fingerprints import ContentFile


def open_file_set(dataset: DatasetConfig, image_size: int) -> FileSet:
    """An evaluation set whose images are single files; its kind is one of `FILE_SETS`."""
    found: FileSet = load(f"{__package__}.{FILE_SETS[dataset.kind]}")(dataset, image_size)
    return found


def fingerprint(config: DataConfig | DatasetConfig | ContentFile, home: Home) -> str:
    """12 hexadecimal digits; reads the data once and later only asks whether its files are still the same.

    As the plan calls it, it also refuses what could only fail later: shards that are missing or unusable, more
    samples wanted than there are, a caption or label that does not exist.
    """
    if isinstance(config, ContentFile):
        return file_fingerprint(config, home)
    if isinstance(config, DatasetConfig) and config.kind != "shards":
        return _published_fingerprint(config, home)
    if isinstance(config, DataConfig):
        where = f"data '{config.name}'"
        files = ShardFiles(find_shards(config.path, where), home, where, config.fingerprint_by)
        check_caption(files, config.caption, where)
        subset(files, config, home)
        return files.fingerprint
    return _dataset_fingerprint(config, home)


def _published_fingerprint(config: DatasetConfig, home: Home) -> str:
    """Fingerprint of a set in a published layout; raises where it is not laid out so."""
    if config.kind == "clip_benchmark":
        parts = clip_benchmark.fingerprints(config, home)
        return hashlib.sha256(":".join(parts).encode()).hexdigest()[:FINGERPRINT_DIGITS]
    return fingerprint_files(*open_file_set(config, 8).files())


def _dataset_fingerprint(config: DatasetConfig, home: Home) -> str:
    """Fingerprint of test shards, training shards where there are some, and the class names in their folder."""
    where = f"data set {config.name}"
    if not config.test_path:
        raise ConfigError(f"{where}: test_path is not set; name the shards of the test split")
    parts = []
    for path, split in ((config.path, "train"), (config.test_path, "test")):
        if path:
            files = ShardFiles(find_shards(path, where), home, where)
            parts.append(files.fingerprint)
            if config.caption != "txt" and split == "test":
                check_caption(files, config.caption, where)
            if config.task:
                check_label(files, config.task, where)
    if not config.task:
        parts += listed_classes(find_shards(config.test_path, where)[0].parent / CLASSES)
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256(":".join(parts).encode()).hexdigest()[:FINGERPRINT_DIGITS]
