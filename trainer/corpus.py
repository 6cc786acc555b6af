"""What a run is trained on: its pairs, checked against their fingerprint, and a tokenizer fitted on them."""

from __future__ import annotations

from study.errors import DataError
from study.paths import Home, RunPaths
from study.schema import RunConfig
from trainer.data.pairs import Pairs, open_pairs
from trainer.data.tokenizer import Tokenizer

TOKENIZER_CAPTIONS = 20_000
"""The tokenizer is fitted on the first so many captions: enough for a vocabulary, little enough to read at once."""


def open_corpus(paths: RunPaths, config: RunConfig, home: Home) -> tuple[Pairs, Tokenizer]:
    """Pairs and tokenizer of a run; the tokenizer is fitted once and then read back.

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
        captions = (pairs.caption(i) for i in range(min(len(pairs), TOKENIZER_CAPTIONS)))
        Tokenizer.fit(captions, config.model.vocab_size, config.model.context_length).save(paths.tokenizer)
    # Read back even when just fitted: every attempt then uses the very same file.
    return pairs, Tokenizer.load(paths.tokenizer)
