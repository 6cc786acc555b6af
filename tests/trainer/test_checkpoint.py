"""Checkpoints: whole or not at all, and no altered byte goes unnoticed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tiny_run import make_config, make_home, write_run

from ablative.study.core.errors import DataError
from ablative.trainer.clip.checkpoint import CorruptError, load, load_system, remove_leftovers, save


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = {"a": torch.randn(3, 4), "b": {"c": torch.arange(5), "d": 0.1}, "e": None}
    save(tmp_path / "x.pt", state)
    found = load(tmp_path / "x.pt")
    assert found is not None
    assert torch.equal(found["a"], state["a"]) and torch.equal(found["b"]["c"], state["b"]["c"])
    assert (found["b"]["d"], found["e"]) == (0.1, None)
    assert load(tmp_path / "none.pt") is None


def test_every_torn_or_altered_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    state = {"a": torch.randn(500), "b": torch.arange(5)}
    save(path, state)
    whole = path.read_bytes()
    choose = random.Random(0)
    noticed = 0
    for round_ in range(300):
        data = bytearray(whole)
        if round_ % 3 == 0:
            del data[choose.randrange(len(data)) :]
        else:
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        path.write_bytes(data)
        try:
            found = load(path)
        except CorruptError as error:
            assert "x.pt" in str(error)
            noticed += 1
        else:
            # A bit of padding between the entries, which nobody reads.
            assert found is not None and torch.equal(found["a"], state["a"]) and torch.equal(found["b"], state["b"])
    assert noticed > 200


def test_another_layout_is_not_read(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "x.pt")
    with pytest.raises(CorruptError, match="layout 99"):
        load(tmp_path / "x.pt")


def test_leftovers_of_killed_attempts_are_removed(tmp_path: Path) -> None:
    paths = write_run(make_home(tmp_path), make_config())
    save(paths.checkpoint, {"step": 1})
    (paths.checkpoints / ".last.pt.abc").write_bytes(b"half")
    (paths.checkpoints / ".model.pt.abc").write_bytes(b"half")
    remove_leftovers(paths)
    assert [file.name for file in paths.checkpoints.iterdir()] == ["last.pt"]


def test_a_run_without_a_model_says_so(tmp_path: Path) -> None:
    paths = write_run(make_home(tmp_path), make_config())
    with pytest.raises(DataError, match="no final model"):
        load_system(paths)
    paths.checkpoints.mkdir()
    paths.model.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="final model is damaged"):
        load_system(paths)
