"""Captions to tokens: byte-pair encoding, fitted on the training captions."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

# The library's threads and forked processes do not mix, and it says so on every fork; one thread is fast enough.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from ablative.study.core.errors import DataError
from ablative.study.core.files import write_atomic
from ablative.trainer.clip.token_ids import BOS, EOS, PAD, UNK

_SPECIAL = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": UNK}


class Tokenizer:
    """Lower-cased byte-level BPE with `BOS`, `EOS` and padding to a fixed context length.

    A caption that is too long loses its last tokens and keeps `EOS`. Bytes that never occurred in the
    fitted captions become `UNK`.
    """

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        if core.truncation is None:
            raise DataError("tokenizer without a context length")
        # A caption that happens to say "<eos>" does not end there.
        core.encode_special_tokens = True
        self._core = core
        self.context_length: int = core.truncation["max_length"]
        self.vocab_size: int = core.get_vocab_size()
        """Tokens there really are: the upper bound that was asked for, or fewer."""
        self.fingerprint = hashlib.sha256(core.to_str().encode()).hexdigest()[:16]

    @classmethod
    def fit(cls, captions: Iterable[str], vocab_size: int, context_length: int) -> Tokenizer:
        """Fit on captions, which are walked through twice and never held in memory; the same captions in the same
        order give the same tokenizer.

        Raises DataError when there is no caption, or the vocabulary has no room for a single letter.
        """
        assert iter(captions) is not captions, "a generator is used up by its first walk"
        if vocab_size <= len(_SPECIAL) or context_length < 3:
            raise DataError(f"vocab_size {vocab_size} and context_length {context_length} leave no room for words")
        core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
        core.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Lowercase(),
                normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
                normalizers.Strip(),
            ]
        )
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        core.decoder = decoders.ByteLevel()
        alphabet = _alphabet(core, captions, vocab_size - len(_SPECIAL))
        if not alphabet:
            raise DataError("no captions to fit the tokenizer on: every caption is empty")
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=list(_SPECIAL),
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        core.train_from_iterator((caption for caption in captions if caption.strip()), trainer)
        core.post_processor = processors.TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
        )
        core.enable_truncation(context_length)
        core.enable_padding(length=context_length, pad_id=PAD, pad_token="<pad>")
        return cls(core)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what `save` wrote; raises DataError where that is missing or damaged."""
        try:
            text = path.read_text()
        except OSError as error:
            raise DataError(f"{path}: no tokenizer ({error.strerror})") from error
        try:
            # The library raises nothing more specific than Exception.
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:
            raise DataError(f"{path}: not a tokenizer file ({error})") from error

    def __reduce__(self) -> tuple[Callable[[str], Tokenizer], tuple[str]]:
        # The library's own pickling forgets that special tokens are to be encoded.
        return _from_text, (self._core.to_str(),)

    def save(self, path: Path) -> None:
        write_atomic(path, self._core.to_str())

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Captions to int64 (B, context_length): `BOS … EOS PAD …`."""
        encoded = self._core.encode_batch_fast(texts)
        return np.array([one.ids for one in encoded], np.int64).reshape(len(texts), self.context_length)

    def decode(self, tokens: np.ndarray) -> str:
        """Text of one row of tokens (L,), without the markers."""
        return str(self._core.decode(tokens.tolist())).strip()


def _from_text(text: str) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(text))


def _alphabet(core: tokenizers.Tokenizer, captions: Iterable[str], room: int) -> list[str]:
    """The most frequent letters (stand-ins for bytes), at most `room` of them.

    Chosen here because the library breaks ties between equally frequent letters differently in every process. Every
    caption begins with a space, as `add_prefix_space` has it.
    """
    counts = np.zeros(256, np.int64)
    for caption in captions:
        if caption.strip():
            content = " " + core.normalizer.normalize_str(caption)
            counts += np.bincount(np.frombuffer(content.encode(), np.uint8), minlength=256)
    found = {letter: count for letter, count in zip(_letters(), counts.tolist(), strict=True) if count}
    return sorted(sorted(found, key=lambda letter: (-found[letter], letter))[:room])


def _letters() -> list[str]:
    """Byte-level BPE's stand-in for each byte (GPT-2 `bytes_to_unicode`): itself where it can be printed."""
    printed = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = itertools.count(256)
    return [chr(byte) if byte in printed else chr(next(others)) for byte in range(256)]
