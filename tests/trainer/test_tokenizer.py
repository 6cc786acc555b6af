"""The tokenizer: markers, truncation, determinism across processes, bad input."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from ablative.study.core.errors import DataError
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer, _letters
from ablative.trainer.clip.token_ids import BOS, EOS, PAD, UNK

CAPTIONS = ["a red circle", "a blue circle", "Photo: Red STAR", "a green  star\non the left"] * 3


def fit(vocab_size: int = 96, context_length: int = 10) -> Tokenizer:
    return Tokenizer.fit(CAPTIONS, vocab_size, context_length)


def test_rows_are_marked_and_padded_to_the_context_length() -> None:
    tokens = fit()(["a red circle", ""])
    assert tokens.shape == (2, 10) and tokens.dtype == np.int64
    assert tokens[0, 0] == BOS
    end = int(np.argmax(tokens[0] == EOS))
    assert end >= 2 and (tokens[0, end + 1 :] == PAD).all() and (tokens[0, 1:end] > UNK).all()
    assert tokens[1].tolist() == [BOS, EOS] + [PAD] * 8


def test_long_captions_keep_their_end_marker() -> None:
    tokenizer = fit(context_length=6)
    row = tokenizer(["a red circle " * 20])[0]
    assert row[0] == BOS and row[-1] == EOS and PAD not in row
    assert row[1:4].tolist() == tokenizer(["a red circle"])[0, 1:4].tolist()


def test_case_and_spacing_do_not_count() -> None:
    tokens = fit()(["a red circle", "A Red   CIRCLE", " a red\tcircle\n"])
    assert (tokens == tokens[0]).all()


def test_frequent_words_become_single_tokens() -> None:
    row = fit(vocab_size=200)(["a red circle"])[0]
    assert (row != PAD).sum() == 5  # marker, three words, marker


@pytest.mark.parametrize("text", ["a red circle", "photo: green star"])
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = fit(context_length=40)
    assert tokenizer.decode(tokenizer([text])[0]) == text


def test_unseen_letters_are_unknown_and_markers_in_captions_are_text() -> None:
    tokens = fit(context_length=24)(["zebra", "a <eos> b <pad>"])
    assert UNK in tokens[0]
    assert (tokens[1] == EOS).sum() == 1
    assert PAD not in tokens[1, : int(np.argmax(tokens[1] == EOS))]


@pytest.mark.parametrize("vocab_size", [8, 16, 64, 5000])
def test_the_vocabulary_keeps_to_its_bound(vocab_size: int) -> None:
    tokenizer = fit(vocab_size)
    assert tokenizer.vocab_size <= vocab_size
    assert tokenizer(CAPTIONS).max() < tokenizer.vocab_size


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    tokenizer = fit()
    tokenizer.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    assert (loaded.fingerprint, loaded.vocab_size, loaded.context_length) == (
        tokenizer.fingerprint,
        tokenizer.vocab_size,
        10,
    )
    np.testing.assert_array_equal(loaded([*CAPTIONS, "<eos> é"]), tokenizer([*CAPTIONS, "<eos> é"]))


def test_pickled_it_is_the_same() -> None:
    """As loader processes get it; a caption that names a special token holds none of them there either."""
    tokenizer, captions = fit(context_length=24), ["a <eos> b <pad>", *CAPTIONS]
    copy = pickle.loads(pickle.dumps(tokenizer))
    np.testing.assert_array_equal(copy(captions), tokenizer(captions))
    assert copy.fingerprint == tokenizer.fingerprint


def test_every_process_fits_the_same_tokenizer() -> None:
    # A small vocabulary makes equally frequent letters compete for a place.
    code = (
        "from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer\n"
        f"for size in (12, 96): print(Tokenizer.fit({CAPTIONS!r}, size, 10).fingerprint)"
    )
    expected = [fit(size).fingerprint for size in (12, 96)]
    assert [fit(size).fingerprint for size in (12, 96)] == expected
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert printed.stdout.split() == expected, printed.stderr


def test_other_captions_give_another_fingerprint() -> None:
    assert Tokenizer.fit([*CAPTIONS, "purple ring", "purple ring"], 96, 10).fingerprint != fit().fingerprint


def test_nothing_to_fit_on() -> None:
    with pytest.raises(DataError, match="no captions to fit the tokenizer on"):
        Tokenizer.fit(["", "  "], 64, 8)


@pytest.mark.parametrize(("vocab_size", "context_length"), [(4, 8), (64, 2)])
def test_no_room(vocab_size: int, context_length: int) -> None:
    with pytest.raises(DataError, match="leave no room for words"):
        Tokenizer.fit(CAPTIONS, vocab_size, context_length)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.json: no tokenizer"):
        Tokenizer.load(tmp_path / "t.json")
    (tmp_path / "t.json").write_text('{"half": ')
    with pytest.raises(DataError, match=r"t\.json: not a tokenizer file"):
        Tokenizer.load(tmp_path / "t.json")


def test_captions_are_walked_through_and_never_held() -> None:
    walks: list[int] = []

    class Captions:
        def __iter__(self) -> Iterator[str]:
            walks.append(1)
            return iter([*CAPTIONS, "", " \n"])

    assert Tokenizer.fit(Captions(), 96, 10).fingerprint == fit().fingerprint
    assert len(walks) >= 2
    with pytest.raises(AssertionError, match="used up by its first walk"):
        Tokenizer.fit((caption for caption in CAPTIONS), 96, 10)


def test_letters_stand_for_bytes_as_the_library_has_them() -> None:
    letters = _letters()
    assert sorted(letters) == sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    for text in [*map(chr, range(128)), "é", "漢", "🙂"]:
        assert "".join(word for word, _ in split(text)) == "".join(letters[byte] for byte in text.encode())
