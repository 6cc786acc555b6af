"""The front: every command shows help, every option is used by some test, errors are one line; list, plan, diff."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest

from ablative.study.cli import COMMANDS, SUMMARIES, ablate, main
from ablative.study.core.extras import missing_extra, sentence
from ablative.study.core.registry import load

ROOT = Path(__file__).parents[2]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand with its words."""
    for name, target in COMMANDS.items():
        command = load(target)
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", each) for sub, each in command.commands.items())
        else:
            yield name, command


ALL = dict(commands())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_command_has_a_summary() -> None:
    assert set(SUMMARIES) == set(COMMANDS)


@pytest.mark.parametrize("name", ALL)
def test_every_command_shows_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"], standalone=False) == 0
    text = capsys.readouterr().out
    assert "Usage: ablate" in text
    assert not re.search(r"TODO|None\]", text)


@pytest.mark.parametrize("name", ["", *ALL])
def test_every_option_is_used_by_a_test(name: str) -> None:
    """An option that no test passes may be broken without anybody noticing."""
    command = ALL[name] if name else ablate
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py")) + "".join(
        path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    )
    for option in command.params:
        if isinstance(option, click.Option) and option.name != "help":
            assert any(re.search(rf"{re.escape(flag)}(?![\w-])", text) for flag in option.opts), option.opts


def test_list_shows_studies_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"], standalone=False) == 0
    assert "demo" in capsys.readouterr().out
    assert main(["list", "model", "--json"], standalone=False) == 0
    assert "vit_b16" in json.loads(capsys.readouterr().out)["model"]
    assert main(["list", "modle"], standalone=False) == 2
    assert "did you mean 'model'" in capsys.readouterr().err


def test_plan_tells_cells_tasks_states_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "demo", "--json"], standalone=False) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["study"] == "demo"
    assert {"scale": "large", "method": "clip", "pooling": "map"} in data["cells"]
    first = data["tasks"][0]
    assert {"task_id", "run_id", "kind", "cell", "seed", "state", "cost"} <= set(first)
    assert first["state"] == "eligible" and data["tasks"][-1]["state"] == "waiting"
    assert first["cost"]["basis"] == "flops" and first["cost"]["core_seconds"] > 0
    assert main(["plan", "demo", "--tasks"], standalone=False) == 0
    assert first["task_id"] in capsys.readouterr().out


def test_a_wide_plan_keeps_names_and_numbers_whole_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["plan", "mae_clip_mini"], standalone=False) == 0
    _, _, headings, _, *rows = capsys.readouterr().out.splitlines()
    factors = ["scale", "method", "pooling", "masking", "weights", "decoder"]
    assert headings.split() == [*factors, "state", "core-min"], "the states count runs and evaluations, too"
    table = rows[: rows.index(" " * len(headings))]
    assert all(len(row) <= 80 for row in table) and not any("…" in row for row in table)
    assert sum(bool(re.search(r" \d+\.\d $", row)) for row in table) == 30, "one price for each cell"
    assert [sum(name in row for row in table) for name in ("masked_clip", "similarity", "supplement")] == [2, 15, 5]


def test_a_piped_plan_has_one_line_for_each_cell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("ABLATE_DATA", str(tmp_path))
    assert main(["plan", "mae_clip_web"], standalone=False) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if re.search(r"^ web +(clip|mae_clip|m3ae) ", line)]
    assert len(rows) == 11 and all("1 no data" in row and "eligible" not in row for row in rows)
    assert main(["plan", "mae_clip_web", "--json"], standalone=False) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert {(task["kind"], task["state"]) for task in tasks} == {("pretrain", "no data"), ("evaluate", "waiting")}


def test_diff_names_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = "scale=large,method=clip,pooling=map", "scale=small,method=clip,pooling=map,seed=1"
    assert main(["diff", "demo", a, b, "--json"], standalone=False) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data["differences"]) == {"data.pairs", "seed"}
    assert main(["diff", "demo", data["a"], data["b"]], standalone=False) == 0
    assert "data.pairs: 8000 → 500" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("scale=huge", "unknown level 'huge'"),
        ("scal=large", "did you mean 'scale'"),
        ("scale=large", "means 9 cells"),
        ("scale=small,method=mae", "is no cell"),
        ("ffffffffffff", "unknown task"),
    ],
)
def test_diff_refuses_what_is_no_cell(cell: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "demo", cell, "method=random_init"], standalone=False) > 0
    assert words in capsys.readouterr().err


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stauts"], standalone=False) == 2
    assert "did you mean 'status'" in capsys.readouterr().err


def test_errors_are_one_line_and_a_traceback_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "demo", "model.width=65"], standalone=False) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(Exception, match=r"model\.heads"):
        main(["--debug", "plan", "demo", "model.width=65"], standalone=False)


def test_home_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    assert main(["--home", str(tmp_path / "other"), "plan", "demo"], standalone=False) == 0
    assert (tmp_path / "other" / "cache").exists()
    assert main(["--version"], standalone=False) == 0
    assert "ablate" in capsys.readouterr().out


def test_a_broken_installation_is_not_taken_for_a_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import torch._C")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"torch\._C") as broken:
        importlib.import_module("torch")
    assert missing_extra(broken.value) is None
    monkeypatch.setattr(ablate, "main", raising(broken.value))
    with pytest.raises(ModuleNotFoundError, match=r"torch\._C"):
        main(["list"], standalone=False)


def test_a_missing_extra_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError) as absent:
        importlib.import_module("torch")
    monkeypatch.setattr(ablate, "main", raising(absent.value))
    assert main(["list"], standalone=False) == 1
    assert capsys.readouterr().err == f"ablate: {sentence('clip')}\n"


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


ENDING = """
import atexit, sys, threading
from ablative.study.cli import main
class Kept:
    def __del__(self, write=sys.stderr.write):
        write("freed\\n")
kept = Kept()
atexit.register(print, "registered")
if sys.argv[1:] == ["thread"]:
    threading.Thread(target=lambda: (threading.main_thread().join(), print("waited"))).start()
main(["plan", "demoo"] if sys.argv[1:] == ["error"] else ["list", "trainers"])
"""


@pytest.mark.parametrize(("word", "code", "last"), [("", 0, "registered"), ("error", 2, "registered")])
def test_a_command_ends_once_its_output_is_written_and_frees_nothing(word: str, code: int, last: str) -> None:
    """Freeing takes up to a third of a second; what other modules have registered for the end runs."""
    done = subprocess.run([sys.executable, "-c", ENDING, word], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == last
    assert "freed" not in done.stderr


def test_a_command_that_has_threads_left_waits_for_them() -> None:
    command = [sys.executable, "-c", ENDING, "thread"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "waited" in done.stdout.splitlines()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_output_that_cannot_be_written_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", ENDING]
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
