"""Images of the suites' evaluation sets, by the hashes of their bytes."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.packages import folder as package_folder
from ablative.study.core.typed import build
from ablative.study.home.paths import Home
from ablative.study.spec.compose import Composer
from ablative.trainer.clip.data.images.image_list import HASH, image_hash
from ablative.trainer.clip.data.sets.evaluation import StoredImages
from ablative.trainer.clip.data.sources import open_dataset
from ablative.trainer.clip.spec.config import DatasetConfig
from ablative.trainer.clip.spec.dataset_kinds import EMBEDDED

_PLACE = ("kind", "path", "test_path", "annotations", "task", "split", "seed")
"""Keys of a set that decide which images it has."""


def named_sets(names: tuple[str, ...], config_dir: str | None) -> dict[str, DatasetConfig]:
    """The evaluation sets of these names, each SET or SUITE/SET.

    Raises:
        ConfigError: no suite has such a set, several have different ones of the name, or its images are no files.
    """
    if not names:
        return {}
    conf = package_folder("ablative.trainer") / "clip" / "conf"
    composer = Composer(config_dir, [conf])
    suites = {suite: composer.tree((("suite", suite),))["suite"]["datasets"] for suite in composer.options("suite")}
    return {name: _named(name, suites) for name in names}


def _named(name: str, suites: dict[str, dict[str, dict[str, object]]]) -> DatasetConfig:
    suite, _, own = name.rpartition("/")
    if suite and suite not in suites:
        raise ConfigError(unknown("suite", suite, suites, f"--against {name}"))
    asked = {suite: suites[suite]} if suite else suites
    found = {
        place: build(DatasetConfig, {"name": own, **sets[own]}, f"suite {place}: datasets.{own}")
        for place, sets in asked.items()
        if own in sets
    }
    if not found:
        raise ConfigError(unknown("evaluation set", own, {key for sets in asked.values() for key in sets}, "--against"))
    first, *others = found.items()
    for place, dataset in others:
        if any(getattr(dataset, key) != getattr(first[1], key) for key in _PLACE):
            raise ConfigError(
                f"--against {name}: suites have different sets of this name; say {first[0]}/{own} or {place}/{own}"
            )
    if first[1].kind in EMBEDDED:
        raise ConfigError(f"--against {name}: a set of kind '{first[1].kind}' is drawn, so no data can have its images")
    return first[1]


def tested_images(dataset: DatasetConfig, home: Home) -> np.ndarray:
    """S16 (n,): the images of the whole test split, each once; raises what opening the set raises."""
    split = open_dataset(dataclasses.replace(dataset, test=0), 8, home).split("test")
    assert isinstance(split, StoredImages)
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), 8)) as pool:
        found = list(pool.map(lambda i: image_hash(split.encoded(i)), range(len(split))))
    return np.unique(np.array(found, HASH))
