"""Evaluation sets and data of a plan with their content fingerprints, which are part of ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from study.class_sets import class_set
from study.errors import AbsentDataError, ConfigError, unknown
from study.paths import Home
from study.prompts import OWN, templates
from study.schema import EMBEDDED, DataConfig, DatasetConfig
from study.typed import build
from study.validate import check_dataset

Fingerprint = Callable[[DataConfig | DatasetConfig, Home], str]
"""Content fingerprint of data that lies in files; given by the command line, since reading data is the trainer's."""


class Contents:
    """Fills in fingerprints, and remembers which data are not on this machine."""

    def __init__(self, fingerprint: Fingerprint | None, home: Home, without_data: bool) -> None:
        """`without_data`: leave the fingerprint of absent data empty, instead of raising AbsentDataError."""
        self._fingerprint, self._home, self._without_data = fingerprint, home, without_data
        self.absent: dict[str, str] = {}
        """Name of data → where they were looked for."""

    def known(self, config: Any) -> Any:
        """A `DataConfig` or `DatasetConfig` with its fingerprint, if it lies in files."""
        if config.kind in EMBEDDED or config.fingerprint or self._fingerprint is None:
            return config
        try:
            return dataclasses.replace(config, fingerprint=self._fingerprint(config, self._home))
        except AbsentDataError as error:
            if not self._without_data:
                raise
            self.absent[config.name] = str(error)
            return config

    def dataset(self, suite: Mapping[str, Any], name: str) -> DatasetConfig:
        """The evaluation set of a suite, checked; raises ConfigError where a name in it does not exist."""
        if name not in suite["datasets"]:
            raise ConfigError(unknown("evaluation set", name, suite["datasets"], "suite.protocols"))
        dataset = build(DatasetConfig, {"name": name, **suite["datasets"][name]}, f"suite.datasets.{name}")
        if dataset.templates != OWN or dataset.kind != "clip_benchmark":
            templates(dataset.templates)
        if dataset.classes:
            class_set(dataset.classes)
        check_dataset(dataset, f"suite.datasets.{name}")
        known: DatasetConfig = self.known(dataset)
        return known
