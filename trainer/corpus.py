"""What a run is trained on: its pairs, checked against their fingerprint, and a tokenizer fitted on them."""

from __future__ import annotations

from pathlib import Path

from study.errors import DataError
from study.files import write_atomic
from study.identity import canonical, digest
from study.paths import Home, RunPaths
from study.schema import RunConfig
from trainer.data.pairs import Pairs, open_pairs
from trainer.data.tokenizer import Tokenizer

TOKENIZER_CAPTIONS = 20_000
"""The tokenizer is fitted on the first so many captions: enough for a vocabulary, little enough to read at once."""


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
    if not paths.tokenizer.exists():
        write_atomic(paths.tokenizer, _fitted(pairs, config, home).read_bytes())
    return pairs, Tokenizer.load(paths.tokenizer)


def _fitted(pairs: Pairs, config: RunConfig, home: Home) -> Path:
    """File of a tokenizer fitted on the pairs' captions, by this run or by another on the same captions."""
    count = min(len(pairs), TOKENIZER_CAPTIONS)
    sizes = (config.model.vocab_size, config.model.context_length)
    path = home.fitted_tokenizer(digest(canonical([pairs.fingerprint, config.data.caption, count, *sizes])))
    if not path.exists():
        Tokenizer.fit((pairs.caption(i) for i in range(count)), *sizes).save(path)
    return path
