"""Content fingerprint of data that lies in files, as the plan and `ablate data check` give it."""

from __future__ import annotations

import hashlib

from study.errors import ConfigError
from study.paths import Home
from study.schema import DataConfig, DatasetConfig
from trainer.data.labelled_shards import CLASSES, listed_classes
from trainer.data.shard_files import FINGERPRINT_DIGITS, ShardFiles
from trainer.data.shard_paths import find_shards
from trainer.data.shards import check_caption, subset


def fingerprint(config: DataConfig | DatasetConfig, home: Home) -> str:
    """12 hexadecimal digits; reads the data once and later only asks whether its files are still the same.

    As the plan calls it, it also refuses what could only fail later: shards that are missing or unusable, more
    pairs than there are, a caption that does not exist.
    """
    assert config.kind == "shards"
    if isinstance(config, DataConfig):
        where = f"data '{config.name}'"
        files = ShardFiles(find_shards(config.path, where), home)
        check_caption(files, config.caption, where)
        if config.pairs:
            subset(files, config.pairs, config.seed, where)
        return files.fingerprint
    return dataset_fingerprint(config, home)


def dataset_fingerprint(config: DatasetConfig, home: Home) -> str:
    """Of the test shards, the training shards where there are some, and class names that lie beside them."""
    where = f"data set {config.name}"
    if not config.test_path:
        raise ConfigError(f"{where}: test_path is not set; name the shards of the test split")
    parts = [ShardFiles(find_shards(path, where), home).fingerprint for path in (config.path, config.test_path) if path]
    if not config.task:
        parts += listed_classes(find_shards(config.test_path, where)[0].parent / CLASSES)
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256(":".join(parts).encode()).hexdigest()[:FINGERPRINT_DIGITS]
