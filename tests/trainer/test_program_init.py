"""`ablate init`: study files proposed for programs as they are; each is planned as it was written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ablative.trainer.program.proposal.found_metrics import found_metrics
from ablative.trainer.program.proposal.short_run import Ran

EXAMPLES = Path(__file__).parents[2] / "examples"
TIMM = """
import argparse, csv, os
p = argparse.ArgumentParser()
p.add_argument("data")
p.add_argument("--lr", type=float, default=0.1)
p.add_argument("--model", choices=["vit", "resnet"], default="vit")
p.add_argument("--amp", action="store_true")
p.add_argument("--epochs", type=int, default=3)
p.add_argument("--workers", type=int, default=3)
p.add_argument("--random-seed", type=int, default=0)
p.add_argument("--resume", default="")
p.add_argument("--output-dir", default="out")
a = p.parse_args()
start = int(open(a.resume).read()) if a.resume else 0
rows = csv.writer(open(os.path.join(a.output_dir, "summary.csv"), "a"))
if not start:
    rows.writerow(["epoch", "valid_acc", "time"])
for e in range(start + 1, a.epochs + 1):
    print(f"Epoch: [{e}/{a.epochs}]  Loss 0.{e}34 (0.5)  Acc@1 {e}.5 ({e}.2)")
    rows.writerow([e, 0.5 + e / 10, 12.5])
    open(os.path.join(a.output_dir, "checkpoint.pth"), "w").write(str(e))
"""
"""Options, output and files as training scripts of image models have them."""


def study(file: Path) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load(file.read_text())
    return content


def test_a_script_with_argparse(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    (tmp_path / "train.py").write_text(TIMM)
    call_ablate(tmp_path / "home", "init", str(tmp_path / "train.py"), "--name", "nets", "--", "cifar")
    found = study(tmp_path / "study.yaml")
    train = found["stages"]["train"]  # type: ignore[index]
    assert train["command"] == "python train.py cifar {args} --random-seed {seed} --output-dir {out}"
    assert train["resume"] == {"file": "checkpoint.pth", "args": "--resume={out}/checkpoint.pth"}
    assert train["outputs"] == ["checkpoint.pth"]
    assert train["metrics"]["valid_acc"] == {
        "better": "higher", "csv": "summary.csv", "key": "valid_acc", "step": "epoch"
    }  # fmt: skip
    assert {"Loss", "Acc_1"} <= set(train["metrics"])
    assert found["unhashed"] == ["workers"]
    assert found["factors"] == {
        "lr": {"key": "lr", "levels": [0.1, 0.2]},
        "model": {"key": "model", "levels": ["vit", "resnet"]},
    }
    assert not (tmp_path / "out").exists()
    assert "4 cells" in call_ablate(tmp_path / "home", "plan", str(tmp_path / "study.yaml"))


def test_the_examples(tmp_path: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("command", "hydra", "function"):
        shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("study.yaml"))
    call_ablate(tmp_path / "home", "init", "--seconds", "15", str(tmp_path / "command" / "train.py"))
    command = study(tmp_path / "command" / "study.yaml")
    assert command["stages"]["train"]["resume"] == {"file": "ckpt.json", "args": "--init_from=resume"}  # type: ignore[index]
    assert list(command["stages"]["train"]["metrics"]) == ["train_loss", "val_loss"]  # type: ignore[index]
    assert command["config"]["width"] == 8 and "seed" not in command["config"]  # type: ignore[index, operator]

    unread = tmp_path / "command" / "unread.yaml"
    printed = call_ablate(
        tmp_path / "home", "init", "--no-run", "--output", str(unread), str(unread.with_name("train.py"))
    )
    assert "metrics: none; write where they are" in printed and "running it" not in printed
    assert "metrics" not in study(unread)["stages"]["train"]  # type: ignore[index]

    call_ablate(tmp_path / "home", "init", str(tmp_path / "hydra" / "train.py"))
    hydra = study(tmp_path / "hydra" / "study.yaml")
    assert hydra["factors"]["model"] == {"key": "model", "levels": ["line", "cubic"]}  # type: ignore[index]
    assert hydra["stages"]["train"]["metrics"]["fit.error"]["jsonl"] == "metrics.jsonl"  # type: ignore[index]

    monkeypatch.chdir(tmp_path / "function")
    call_ablate(tmp_path / "home", "init", "--python", sys.executable, "digits:train")
    function = study(tmp_path / "function" / "study.yaml")
    assert function["python"] == sys.executable
    assert function["config"] == {"epochs": None, "alpha": None, "penalty": None}
    assert function["stages"]["train"]["metrics"] == {"accuracy": {"better": "higher"}}  # type: ignore[index]


def test_scripts_in_folders_and_modules_are_started_where_one_is(
    tmp_path: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python tools/train.py` and `python -m lab.train` are: files are named from there."""
    place = tmp_path / "vision"
    for name in ("tools/train.py", "lab/__init__.py", "lab/train.py"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(
            TIMM.replace("a = p", "import lab\nassert open('here.txt').read()\na = p")
            if name[-8:] == "train.py"
            else ""
        )
    (place / "here.txt").write_text("here")
    monkeypatch.chdir(place)
    call_ablate(tmp_path / "home", "init", "-m", "lab.train", "--output", "a.yaml", "--", "cifar")
    found = study(place / "a.yaml")
    command = "{args} --random-seed {seed} --output-dir {out}"
    assert found["stages"]["train"]["command"] == f"python -m lab.train cifar {command}"  # type: ignore[index]
    assert "Loss" in found["stages"]["train"]["metrics"] and found["name"] == "lab"  # type: ignore[index]
    (place / "tools" / "lab").symlink_to(place / "lab")
    call_ablate(tmp_path / "home", "init", "--no-run", "tools/train.py", "--", "cifar")
    found = study(place / "study.yaml")
    assert found["stages"]["train"]["command"] == f"python tools/train.py cifar {command}"  # type: ignore[index]
    assert found["name"] == "vision"


SETTINGS = """
import os, sys, time
out_dir, seed = "out", 0
width: int = 2 * 8
rate = 0.1
dtype = "half" if "GPU" in os.environ else "float"
name = f"run {time.time()}"
max_iters = 50
LIMIT = 3
def overwrite():
    for word in sys.argv[1:]:
        if word.endswith(".py"):
            exec(open(word).read(), globals())
        else:
            key, text = word[2:].split("=")
            if key not in globals():
                sys.exit(f"unknown setting {key}")
            globals()[key] = type(globals()[key])(text)
overwrite()
best_loss, done = 1e9, 0
for done in range(1, max_iters + 1):
    print("step", done, "loss", width * rate / done)
open(out_dir + "/last.pt", "w").write(dtype)
"""
"""What is assigned after the arguments were read is no setting: the script would refuse it."""


def test_a_script_with_settings_runs_as_the_study_has_it(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    (tmp_path / "net.py").write_text(SETTINGS)
    (tmp_path / "small.py").write_text("width, rate = 4, 0.25\nname = 'small ' + dtype\n")
    words = ("small.py", "--max_iters=3", "--seed=7", "--rate=1e-1", "--dtype=double")
    call_ablate(tmp_path / "home", "init", str(tmp_path / "net.py"), "--", *words)
    text = (tmp_path / "study.yaml").read_text()
    found = study(tmp_path / "study.yaml")
    assert found["config"] == {"width": 4, "rate": 0.1, "max_iters": 3, "dtype": "double"}
    assert "# name: the script computes it, 'small ' + dtype in small.py; write a value" in text
    train = found["stages"]["train"]  # type: ignore[index]
    assert train["command"] == "python net.py small.py {args} --seed={seed} --out_dir={out}"
    assert "  # seen 3 times" in text and train["outputs"] == ["last.pt"]
    call_ablate(tmp_path / "home", "init", "--no-run", "--output", str(tmp_path / "b.yaml"), str(tmp_path / "net.py"))
    assert study(tmp_path / "b.yaml")["config"] == {"width": 16, "rate": 0.1, "max_iters": 50}


OWN_WORDS = """
import sys, json, os
from settings.read import read
config = read(sys.argv[1:])
print("overwriting", *(f"{key} with {value}" for key, value in config.items()))
print("warn.py:12: UserWarning: 4 workers are too many")
used = {"net": {"width": 8, "act": "relu"}, "opt": {"lr": 0.1, "epochs": 2}, "run": config["run"]}
json.dump(used, open("MARK", "w"))
for epoch in range(2):
    print(f"x.py:7] epoch {epoch} | valid perplexity {9 - epoch}.5 gap 0.25")
"""
OWN_READER = """
from ast import literal_eval
def read(words):
    config = {"opt.lr": 0.5, "run": {"save_dir": ".", "seed": 3}}
    while words:
        word = words.pop(0)
        key, text = word.lstrip("-").split("=") if "=" in word else (word.lstrip("-"), words.pop(0))
        if key == "run.save_dir":
            config["run"]["save_dir"] = EVAL
        else:
            config[key] = text
    return config
"""


@pytest.mark.parametrize(
    ("words", "command", "evaluated"),
    [
        (
            ["--opt.lr=0.2", "--run.save_dir='a'", "--run.seed=1"],
            """{args} --run.seed={seed} '--run.save_dir="{out}"'""",
            True,
        ),
        (["--opt.lr", "2e-1", "--run.save_dir", "a"], "{args:space} --run.seed {seed} --run.save_dir {out}", False),
        (["opt.lr=0.2", "run.save_dir=a", "run.seed=1"], "{args:hydra} run.seed={seed} run.save_dir={out}", False),
    ],
)
def test_a_script_that_reads_its_command_line_itself(
    words: list[str], command: str, evaluated: bool, tmp_path: Path, call_ablate: Callable[..., str]
) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "read.py").write_text(
        OWN_READER.replace("EVAL", "literal_eval(text)" if evaluated else "text")
    )
    place = 'os.path.join(config["run"]["save_dir"], "used.json")'
    (tmp_path / "net.py").write_text(OWN_WORDS.replace('"MARK"', place))
    call_ablate(tmp_path / "home", "init", str(tmp_path / "net.py"), "--", *words)
    found, text = study(tmp_path / "study.yaml"), (tmp_path / "study.yaml").read_text()
    assert found["config"] == {"opt.lr": 0.2, "net.width": 8, "opt.epochs": 2}
    train = found["stages"]["train"]  # type: ignore[index]
    assert train["command"] == f"python net.py {command}"
    assert list(train["metrics"]) == ["valid_perplexity", "gap"] and "  # net.act: relu" in text
    assert found["factors"] == {
        "lr": {"key": "opt.lr", "levels": [0.2, 0.4]},
        "width": {"key": "net.width", "levels": [8, 16]},
    }


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("step 20: train loss 1.5, val loss 2.25", "val_loss", 2.25),
        ("{'loss': 0.5, 'grad_norm': 2.0, 'epoch': 1.0}", "loss", 0.5),
        ("INFO 2026-01-01 | epoch=3 | val_acc=71.2% | 3.1 it/s", "val_acc", 71.2),
        ("Epoch: [3/10]  Loss 0.334 (0.5)  Acc@1 3.5 (3.2)", "Acc_1", 3.5),
        ("Test set: Average loss: 0.0421, Accuracy: 9865/10000 (99%)", "Accuracy", 9865.0),
    ],
)
def test_numbers_in_lines(tmp_path: Path, line: str, name: str, value: float) -> None:
    """The proposed expressions match the lines that they were made of."""
    import re

    from ablative.trainer.program.metrics.series import number_of

    found = {one.name: one for one in found_metrics(Ran((line, line), tmp_path, tmp_path / "none", 0, False, 1.0))}
    match = re.search(found[name].source["stdout"], line)
    assert match is not None
    assert number_of(match["value"]) == value


CLICK = """
import click


@click.group()
def tool():
    pass


@tool.command()
@click.option("--learning-rate", "-l", default=0.1)
@click.option("--fast", is_flag=True)
@click.option("--cache/--no-cache", default=True)
@click.option("--layer", multiple=True, type=int)
@click.option("--steps", default=lambda: 3, type=int)
@click.option("--seed", type=int)
@click.option("--save", required=True)
@click.argument("data")
def train(learning_rate, fast, cache, layer, steps, seed, save, data):
    for step in range(steps):
        print(f"step {step + 1} loss {learning_rate + int(fast) + (seed or 0):.3f}")


@tool.command()
def test():
    raise SystemExit("it did its work")


if __name__ == "__main__":
    tool()
"""


def test_a_command_of_click(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    (tmp_path / "tool.py").write_text(CLICK)
    words = ("train", "cifar", "--fast", "--learning-rate=0.2")
    call_ablate(tmp_path / "home", "init", str(tmp_path / "tool.py"), "--", *words)
    found = study(tmp_path / "study.yaml")
    assert found["config"] == {"learning-rate": 0.2, "fast": True, "steps": 3}
    train = found["stages"]["train"]  # type: ignore[index]
    assert train["command"] == "python tool.py train cifar {args:flags} --seed={seed} --save={out}"
    assert train["metrics"]["loss"]["stdout"] and found["seeds"] == [0, 1]
    tried = json.loads(call_ablate(tmp_path / "home", "try", str(tmp_path / "study.yaml"), "--json"))
    assert tried["stages"]["train"]["metrics"] == {"train/loss": 1.2}


def test_what_cannot_be_proposed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablative.study.cli import main

    monkeypatch.setattr(sys, "argv", ["ablate"])
    (tmp_path / "train.py").write_text(TIMM)
    (tmp_path / "study.yaml").write_text("name: mine\n")

    def refused(*words: str) -> str:
        assert main(["init", *words], standalone=False) == 2
        return capsys.readouterr().err

    assert "is not written over" in refused(str(tmp_path / "train.py"))
    assert "did you mean" in refused(str(tmp_path / "trian.py"), "--output", str(tmp_path / "a.yaml"))
    required = refused(str(tmp_path / "train.py"), "--output", str(tmp_path / "a.yaml"))
    assert "required: data" in required and "-- WORDS" in required
    for library, source in (("fire", "import fire\nfire.Fire(main)\n"), ("absl", "from absl import app, flags\n")):
        (tmp_path / f"{library}_tool.py").write_text(source)
        said = refused(str(tmp_path / f"{library}_tool.py"), "--output", str(tmp_path / "a.yaml"))
        assert f"by {library}, which cannot be asked" in said and f"init {library}_tool.py -- --KEY=VALUE" in said
    (tmp_path / "tool.py").write_text(CLICK)
    assert "name one: ablate init tool.py -- test | train" in refused(
        str(tmp_path / "tool.py"), "--output", str(tmp_path / "a.yaml")
    )
    (tmp_path / "tool.py").write_text(CLICK.replace("    tool()", "    import nothing_of_this_name"))
    assert "nothing_of_this_name" in refused(str(tmp_path / "tool.py"), "--output", str(tmp_path / "a.yaml"))
    assert (tmp_path / "study.yaml").read_text() == "name: mine\n" and not (tmp_path / "a.yaml").exists()
