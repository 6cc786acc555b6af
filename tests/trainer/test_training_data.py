"""What a tokenizer is fitted on: so many captions of a run's own pairs, or a text file of the user's."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from shard_world import config as shards
from shard_world import sample, write_shard
from tiny_run import make_config, make_home

from ablative.study.core.errors import AbsentDataError, ConfigError, DataError
from ablative.study.core.identity import config_id
from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.spec.checks import check_run
from ablative.trainer.clip.spec.config import DataConfig, RunConfig
from ablative.trainer.clip.training_data import open_corpus

TEXTS = "zebras quarrel\nabout a red circle\n" * 4 + "xylophones\n" * 4


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_DATA", str(tmp_path))
    (tmp_path / "texts.txt").write_text(TEXTS)
    return make_home(tmp_path)


def tokenizer(home: Home, config: RunConfig) -> Tokenizer:
    """Of a run of its own."""
    return open_corpus(home.run(uuid4().hex[:12]), config, home)[1]


def data_of(study: str, home: Home, *overrides: str) -> DataConfig:
    config = make_plan(study, overrides, home=home, read_data=True).runs[0].config
    assert isinstance(config, RunConfig)
    return config.data


def test_as_many_captions_as_are_asked_for(home: Home) -> None:
    few, all_, more = (make_config(data__tokenizer_captions=n, model__vocab_size=200) for n in (3, 64, 10**6))
    assert tokenizer(home, few).vocab_size < tokenizer(home, all_).vocab_size
    assert tokenizer(home, all_).fingerprint == tokenizer(home, more).fingerprint, "there are 64"
    assert len({config_id(config) for config in (few, all_, more)}) == 3
    assert config_id(make_config(data__tokenizer_captions=20_000)) == config_id(make_config())


def test_other_subsets_of_the_same_shards_are_other_captions(tmp_path: Path, home: Home) -> None:
    path = write_shard(tmp_path / "s.tar", [{**sample(i), "txt": f"word{i} word{i}".encode()} for i in range(40)])
    subsets = ({"pairs": 20}, {"pairs": 20, "seed": 1}, {"pairs": 21}, {"pairs": 20, "exclude": ("word1",)})
    found = set()
    for fields in subsets:
        data = shards(path, tokenizer_captions=10, **fields)
        config = RunConfig(**{**vars(make_config(model__vocab_size=200)), "data": data})
        found.add(tokenizer(home, config).fingerprint)
    assert len(found) == len(subsets)


def test_a_text_file_instead(home: Home) -> None:
    def fitted_on_texts(**changes: object) -> Tokenizer:
        sizes = {"model__vocab_size": 200, "model__context_length": 40}
        return tokenizer(home, make_config(data__tokenizer_texts="texts.txt", **sizes, **changes))

    found = fitted_on_texts()
    assert found.decode(found(["zebras quarrel"])[0]) == "zebras quarrel"
    assert found.fingerprint == Tokenizer.fit(TEXTS.splitlines(), 200, 40).fingerprint
    # Whatever the pairs are, runs share what is fitted on the same lines.
    assert fitted_on_texts(data__pairs=32).fingerprint == found.fingerprint
    assert len(list(home.fitted_tokenizer("x").parent.iterdir())) == 1
    first = fitted_on_texts(data__tokenizer_captions=8)
    assert first.fingerprint == Tokenizer.fit(TEXTS.splitlines()[:8], 200, 40).fingerprint != found.fingerprint


def test_the_plan_knows_the_text_file_by_its_content(tmp_path: Path, home: Home) -> None:
    def planned(path: str) -> str:
        return data_of("demo", home, f"data.tokenizer_texts={path}").tokenizer_fingerprint

    (tmp_path / "moved.txt").write_text(TEXTS)
    assert len(planned("texts.txt")) == 12 and planned("moved.txt") == planned("texts.txt")
    (tmp_path / "moved.txt").write_text(TEXTS + "more\n")
    assert planned("moved.txt") != planned("texts.txt")
    assert data_of("demo", home).tokenizer_fingerprint == ""
    with pytest.raises(AbsentDataError, match=r"data shapes: tokenizer_texts: .*gone\.txt does not exist"):
        planned("gone.txt")
    plan = make_plan("demo", ["data.tokenizer_texts=gone.txt"], home=home, read_data=True, without_data=True)
    assert list(plan.absent) == ["shapes: tokenizer_texts"]


def test_a_text_file_that_is_not_what_was_planned(tmp_path: Path, home: Home) -> None:
    changed = make_config(data__tokenizer_texts="texts.txt", data__tokenizer_fingerprint="0123456789ab")
    with pytest.raises(DataError, match=r"shapes: tokenizer_texts has changed: .* planned with 0123456789ab"):
        tokenizer(home, changed)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"latin\.txt: no UTF-8 text"):
        tokenizer(home, make_config(data__tokenizer_texts="latin.txt"))
    with pytest.raises(ConfigError, match=r"data\.tokenizer_fingerprint: set without data\.tokenizer_texts"):
        check_run(make_config(data__tokenizer_fingerprint="0123456789ab"))
