"""All keys: of every study file, of its trainers, and of the config groups."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.discovery.keys import Key, declared
from ablative.study.installed_trainers import TRAINERS, trainer
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.study_keys import StudyKeys
from ablative.study.trainer_names import SHIPPED
from ablative.study.trainers import Trainer

STUDY, CLUSTER = "study", "cluster"
"""Owners of keys that no trainer owns."""


def trainers() -> Iterator[Trainer]:
    """The shipped trainers, then those of other distributions; one that cannot be imported is passed over."""
    for name in (*SHIPPED, *(name for name in TRAINERS if name not in SHIPPED)):
        try:
            yield trainer(name)
        except ConfigError:
            if name in SHIPPED:
                raise


@functools.cache
def catalogue() -> tuple[Key, ...]:
    """Every key; `runtime` has those that a trainer adds to the common ones under the trainer's name."""
    found = [*declared(StudyKeys, "", STUDY)]
    common = [*declared(RuntimeConfig, "runtime", STUDY), *declared(ClusterConfig, CLUSTER, CLUSTER)]
    known = {key.name for key in common}
    for one in trainers():
        given = {key.name for key in found}
        for section, kind in (one.keys or {}).items():
            found += [key for key in declared(kind, section, one.name) if key.name not in (known if section else given)]
    return tuple([*found, *common])


def keys_below(prefix: str) -> Sequence[Key]:
    """The keys that a prefix means; raises ConfigError, with the nearest, where there is none."""
    found = [key for key in catalogue() if not prefix or key.matches(prefix)]
    if not found:
        raise ConfigError(unknown("key", prefix, {key.name for key in catalogue()} | _heads()))
    return found


def _heads() -> set[str]:
    return {key.name.partition(".")[0] for key in catalogue()}
