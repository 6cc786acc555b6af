"""Evaluation sets and data of a plan with their content fingerprints, which are part of ids."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ablative.study.core.errors import AbsentDataError, ConfigError, unknown
from ablative.study.core.files import write_atomic
from ablative.study.core.identity import canonical, digest
from ablative.study.core.typed import build
from ablative.study.home.paths import Home
from ablative.trainer.clip.spec.checks import check_dataset
from ablative.trainer.clip.spec.class_sets import class_set
from ablative.trainer.clip.spec.config import (
    DataConfig,
    DatasetConfig,
    ModelConfig,
    ObjectiveConfig,
    ProtocolConfig,
    SuiteConfig,
)
from ablative.trainer.clip.spec.dataset_kinds import EMBEDDED
from ablative.trainer.clip.spec.prompts import OWN, templates


@dataclass(frozen=True)
class ContentFile:
    """A file whose content is part of ids: texts that the tokenizer is fitted on, a list of images, weights."""

    name: str
    """What messages call the file."""
    path: str
    expected: str
    """What the file has to be, in words."""
    section: str = "data"
    """Section of the configuration that names it."""

    @property
    def where(self) -> str:
        """Section and name, for messages."""
        return f"{self.section} {self.name}"

    @classmethod
    def texts(cls, data: DataConfig) -> ContentFile:
        """The texts that the tokenizer is fitted on."""
        return cls(f"{data.name}: tokenizer_texts", data.tokenizer_texts, "a plain text file, one text a line")

    @classmethod
    def images(cls, data: DataConfig) -> ContentFile:
        """The list of images whose pairs are left out."""
        expected = "a list of images that `ablate data check SHARDS --write FILE` has written"
        return cls(f"{data.name}: exclude_images", data.exclude_images, expected)

    @classmethod
    def weights(cls, model: ModelConfig) -> ContentFile:
        """Published weights that a run starts from."""
        expected = "weights of a vision transformer under timm's names (.safetensors, or written by torch.save)"
        return cls(f"{model.name}: start.path", model.start.path, expected, "model")

    @classmethod
    def tokenizer(cls, objective: ObjectiveConfig) -> ContentFile:
        """A trained tokenizer of images."""
        expected = "weights of a tokenizer of images: DALL-E's encoder, or model.pt of a run with the objective fsq"
        return cls("codes.path", objective.codes.path, expected, "objective")


Read = Callable[[DataConfig | DatasetConfig | ContentFile, Home], str]
"""Reads the content fingerprint of data in files."""
Check = Callable[[DatasetConfig, ProtocolConfig, Home], None]
"""Raises where a set lacks what a protocol takes of it."""
MOST_CLASSES = 256
"""No task of the procedural world has more: its sets, which are endless, can only lack samples of each class."""
CHECK_VERSION = 1
"""Part of the name under which a passed check is kept: raise it whenever the check asks for more."""


class Fingerprints:
    """Fills in fingerprints, and remembers which data are not on this machine."""

    def __init__(self, home: Home, read: Read | None, without_data: bool, check: Check | None = None) -> None:
        """Make an empty memory.

        Args:
            home: keeps what was read.
            read: reads fingerprints; without, they stay empty.
            without_data: leave the fingerprint of absent data empty, instead of raising AbsentDataError.
            check: asks the sets that are here for what a protocol takes of them.
        """
        self._check = check
        self._checked: set[tuple[DatasetConfig, ProtocolConfig]] = set()
        self._here: set[str] = set()
        self._home, self._reader, self._without_data = home, read, without_data
        self.absent: dict[str, str] = {}
        """Name of data → where they were looked for."""
        self._places: dict[str, list[str]] = {}

    def with_fingerprint(self, config: Any) -> Any:
        """A `DataConfig` or `DatasetConfig` with its fingerprints, if it lies in files."""
        found: dict[str, str] = {}
        if isinstance(config, DataConfig) and config.tokenizer_texts and not config.tokenizer_fingerprint:
            found["tokenizer_fingerprint"] = self._read(ContentFile.texts(config))
        if isinstance(config, DataConfig) and config.exclude_images and not config.exclude_images_fingerprint:
            found["exclude_images_fingerprint"] = self._read(ContentFile.images(config))
        if config.kind not in EMBEDDED and not config.fingerprint:
            found["fingerprint"] = self._read(config)
        return dataclasses.replace(config, **found) if found else config

    def started(self, model: ModelConfig) -> ModelConfig:
        """The model with the fingerprint of the published weights that it starts from."""
        if not model.start.path or model.start.fingerprint:
            return model
        start = dataclasses.replace(model.start, fingerprint=self._read(ContentFile.weights(model)))
        return dataclasses.replace(model, start=start)

    def coded(self, objective: ObjectiveConfig) -> ObjectiveConfig:
        """The objective with the fingerprint of the tokenizer of images whose codes it predicts."""
        if not objective.codes.path or objective.codes.fingerprint:
            return objective
        codes = dataclasses.replace(objective.codes, fingerprint=self._read(ContentFile.tokenizer(objective)))
        return dataclasses.replace(objective, codes=codes)

    def _read(self, source: DataConfig | DatasetConfig | ContentFile) -> str:
        """The fingerprint, empty where it cannot be known."""
        if self._reader is None:
            return ""
        try:
            found = self._reader(source, self._home)
            self._here.add(found)
            return found
        except AbsentDataError as error:
            if not self._without_data:
                raise
            return self._provisional(source, str(error))

    def _provisional(self, source: DataConfig | DatasetConfig | ContentFile, message: str) -> str:
        """A fingerprint for absent data: empty, and a number where levels name several places under one name.

        Without the number, the plan would take their cells for one run.
        """
        places = self._places.setdefault(source.name, [])
        if source.path not in places:
            places.append(source.path)
        number = places.index(source.path)
        self.absent[f"{source.name} ({source.path})" if number else source.name] = message
        return f"absent {number}" if number else ""

    def check(self, dataset: DatasetConfig, protocol: ProtocolConfig) -> None:
        """Raise where a set that is here lacks what the protocol takes of it: samples, labels, captions, questions."""
        if self._check is None or (dataset, protocol) in self._checked:
            return
        self._checked.add((dataset, protocol))
        few = 0 < dataset.train < MOST_CLASSES
        if few if dataset.kind == "shapes" else dataset.kind in EMBEDDED or dataset.fingerprint in self._here:
            self._check_once(self._check, dataset, protocol)

    def _check_once(self, check: Check, dataset: DatasetConfig, protocol: ProtocolConfig) -> None:
        """Check a set, and keep in the home that it passed: it lies on disk as its fingerprint says.

        A second plan then imports nothing that opens data, which takes half a second.
        """
        asked = [CHECK_VERSION, dataclasses.asdict(dataset), protocol.kind, protocol.epochs]
        passed = self._home.checked_set(digest(canonical(asked)))
        if passed.exists():
            return
        check(dataset, protocol, self._home)
        with contextlib.suppress(OSError):  # a home that cannot be written: the set is opened again next time
            write_atomic(passed, "", durable=False)

    def dataset(self, suite: SuiteConfig, name: str) -> DatasetConfig:
        """The evaluation set of a suite, checked; raises ConfigError where a name in it does not exist."""
        if name not in suite.datasets:
            raise ConfigError(unknown("evaluation set", name, suite.datasets, "suite.protocols"))
        dataset = build(DatasetConfig, {"name": name, **suite.datasets[name]}, f"suite.datasets.{name}")
        if dataset.templates != OWN or dataset.kind != "clip_benchmark":
            templates(dataset.templates, f"suite.datasets.{name}.templates")
        if dataset.classes:
            class_set(dataset.classes, f"suite.datasets.{name}.classes")
        check_dataset(dataset, f"suite.datasets.{name}")
        known: DatasetConfig = self.with_fingerprint(dataset)
        return known
