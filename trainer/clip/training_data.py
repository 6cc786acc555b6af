"""What a run is trained on: its pairs, checked by their fingerprint, and a tokenizer fitted on captions or texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablative.study.core.errors import DataError
from ablative.study.core.files import write_atomic
from ablative.study.core.identity import canonical, digest, identity
from ablative.study.home.paths import Home, RunPaths
from ablative.trainer.clip.data.pairs.pairs import Pairs
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.sources import open_pairs
from ablative.trainer.clip.data.texts import TextLines, file_fingerprint, find_content, unchanged
from ablative.trainer.clip.spec.config import DataConfig, RunConfig
from ablative.trainer.clip.spec.fingerprints import ContentFile


def open_corpus(paths: RunPaths, config: RunConfig, home: Home) -> tuple[Pairs, Tokenizer]:
    """Pairs and tokenizer of a run; the run keeps the tokenizer that it began with.

    Raises DataError when the data is not what the configuration's fingerprint says.
    """
    pairs = open_pairs(config.data, config.model.image_size, home)
    expected = config.data.fingerprint
    if expected and not pairs.fingerprint.startswith(expected):
        raise DataError(
            f"data '{config.data.name}' has changed: its fingerprint is {pairs.fingerprint}, the study was planned "
            f"with {expected}; restore the data, or give it a new version and plan again"
        )
    if config.data.exclude_images:
        unchanged(ContentFile.images(config.data), config.data.exclude_images_fingerprint, home)
    if not paths.tokenizer.exists():
        write_atomic(paths.tokenizer, _fitted(pairs, config, home).read_bytes())
    return pairs, Tokenizer.load(paths.tokenizer)


def _fitted(pairs: Pairs, config: RunConfig, home: Home) -> Path:
    """File of a tokenizer fitted on the captions or a text file, by this run or by another on the same."""
    data = config.data
    captions: Iterable[str] = Captions(pairs, min(len(pairs), data.tokenizer_captions))
    source: list[Any] = [pairs.fingerprint, identity(data)]
    if data.exclude_images:
        source.append(file_fingerprint(ContentFile.images(data), home))
    if data.tokenizer_texts:
        captions, source = _texts(data, home)
    sizes = (config.model.vocab_size, config.model.context_length)
    path = home.fitted_tokenizer(digest(canonical([*source, *sizes])))
    if not path.exists():
        Tokenizer.fit(captions, *sizes).save(path)
    return path


def _texts(data: DataConfig, home: Home) -> tuple[TextLines, list[Any]]:
    """The text file's lines, and what names them; raises DataError when it is not what the study was planned with."""
    source = ContentFile.texts(data)
    found = unchanged(source, data.tokenizer_fingerprint, home)
    return TextLines(find_content(source), data.tokenizer_captions), [found, data.tokenizer_captions]


@dataclass(frozen=True)
class Captions:
    """The first `count` captions, read anew by everyone who walks through them: a million need not fit in memory."""

    pairs: Pairs
    count: int

    def __iter__(self) -> Iterator[str]:
        return (self.pairs.caption(i) for i in range(self.count))
