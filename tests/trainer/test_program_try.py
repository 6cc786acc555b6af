"""`ablate config` and `ablate try` on users' programs: what a cell runs with, and how it goes on when stopped."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ablative.study.home.paths import Home
from ablative.study.home.tried import read_tried

EXAMPLES = Path(__file__).parents[2] / "examples"
NANO = """
import json, os, random, sys, time
out_dir, init_from, max_iters, eval_interval, seed = "out", "scratch", 60, 5, 1337
for argument in sys.argv[1:]:
    key, _, value = argument[2:].partition("=")
    globals()[key] = value if isinstance(globals()[key], str) else int(value)
random.seed(seed)
path, first, weight = os.path.join(out_dir, "ckpt.json"), 0, 1.0
if init_from == "resume":
    first, weight = json.load(open(path))
for step in range(first + 1, max_iters + 1):
    weight -= 0.01 * weight * random.random()
    time.sleep(0.03)
    print(f"step {step}: loss {weight:.6f}, {time.time():.6f} s", flush=True)
    if step % eval_interval == 0:
        json.dump([step, weight], open(path + ".new", "w"))
        os.replace(path + ".new", path)
"""
"""As nanoGPT does it: the generator begins again at its seed when a run is resumed, so that it ends elsewhere."""
STUDY = {
    "name": "nano",
    "title": "Steps of a toy",
    "code": ".",
    "config": {"max_iters": 60},
    "stages": {
        "train": {
            "command": "python train.py {args} --seed={seed} --out_dir={out}",
            "resume": {"file": "ckpt.json", "args": "--init_from=resume"},
            "progress": {"steps": "{max_iters}"},
            "metrics": {
                "loss": {"better": "lower", "stdout": r"step (?P<step>\d+): loss (?P<value>[\d.]+)"},
                "clock": {"stdout": r"step (?P<step>\d+):.* (?P<value>[\d.]+) s"},
            },
            "outputs": ["ckpt.json"],
        }
    },
    "seeds": [0, 1],
    "factors": {"length": {"short": {"max_iters": 60}, "long": {"max_iters": 120}}},
    "tables": {"main": {"rows": ["length"], "columns": [{"label": "loss", "metric": "train/loss"}]}},
}


def nano(folder: Path, **stage: object) -> str:
    """A study of the script above, with other keys of its stage."""
    (folder / "train.py").write_text(NANO)
    study = {**STUDY, "stages": {"train": {**STUDY["stages"]["train"], **stage}}}  # type: ignore[index]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return str(folder / "study.yaml")


def test_config_shows_what_a_cell_runs_with(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    file = nano(tmp_path)
    shown = json.loads(call_ablate(tmp_path / "home", "config", file, "length=long,seed=1", "--json"))
    train = shown["stages"]["train"]
    assert train["config"]["max_iters"] == 120
    out = train["environment"]["ABLATE_OUT"]
    assert train["command"].endswith(f"train.py --max_iters=120 --seed=1 --out_dir={out}")
    assert train["cwd"] == str(tmp_path)
    text = yaml.safe_load(call_ablate(tmp_path / "home", "config", file))
    assert text["train"]["config"]["max_iters"] == 120  # the first cell; what is printed is YAML
    shutil.copytree(EXAMPLES / "function", tmp_path / "function")
    found = json.loads(
        call_ablate(
            tmp_path / "home",
            "config",
            str(tmp_path / "function" / "study.yaml"),
            "penalty=l1,weight=weak",
            "epochs=9",
            "--json",
        )
    )
    assert list(found["stages"]) == ["train", "test"]
    assert found["stages"]["test"]["config"]["epochs"] == 9
    assert found["stages"]["test"]["command"].endswith("-m ablative.call digits:test")


def test_config_works_for_the_shipped_trainer(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    found = json.loads(call_ablate(tmp_path, "config", "demo", "--json"))
    assert found["stages"]["train"]["config"]["model"]["width"] > 0
    assert "command" not in found["stages"]["train"]


SHIPPED = """
name: first
base: {model: tiny, data: shapes, schedule: demo}
factors: {pooling: {map: {model.pooling: map}, gap: {model.pooling: gap}}}
protocols: [zero_shot]
"""


@pytest.mark.long
def test_a_cell_of_the_shipped_trainer_is_tried(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    (tmp_path / "study.yaml").write_text(SHIPPED)
    # On a fast machine 12 steps take half a second, which is too short to be stopped midway.
    small = ["schedule.steps=120", "schedule.warmup_steps=1", "data.pairs=100", "runtime.log_every=3"]
    sets = ("shape", "color", "texture", "object", "count", "distance", "orientation", "location")
    small += [f"suite.datasets.shapes_{name}.{split}=40" for name in sets for split in ("train", "test")]
    home, file = tmp_path / "home", str(tmp_path / "study.yaml")
    found = json.loads(call_ablate(home, "try", file, "pooling=gap", *small, "--minutes", "4", "--json"))
    assert found["complete"] and found["price"].startswith("4 tasks are missing: about ")
    train, zero_shot = found["stages"]["train"], found["stages"]["zero_shot"]
    assert train["resumption"]["exact"] and train["resumption"]["resumes"]
    assert not zero_shot["missing"] and "zero_shot/shapes_shape/top1" in zero_shot["metrics"]
    tasks = json.loads(call_ablate(home, "plan", file, *small, "--json"))["tasks"]
    assert {task["cost"]["basis"] for task in tasks} == {"tried"}


def test_an_inexact_resume_is_measured_and_kept(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    file, home = nano(tmp_path), tmp_path / "home"
    found = json.loads(call_ablate(home, "try", file, "length=short", "--json"))
    assert found["complete"]
    train = found["stages"]["train"]
    assert train["state"] == "completed" and train["outputs"] == ["ckpt.json"]
    assert train["metrics"].keys() == {"train/loss", "train/clock"} and not train["missing"]
    resumption = train["resumption"]
    assert resumption["resumes"] and resumption["exact"] is False
    # The clock differs between any two runs, so it says nothing of the stop.
    assert resumption["metric"] == "train/loss" and resumption["difference"] > 1e-4
    # It goes on after the last checkpoint, at a multiple of 5 steps.
    assert 0 <= resumption["computed_twice"] < 5 + 10
    assert found["price"].startswith("4 tasks are missing")
    assert sorted(path.name for path in home.iterdir() if path.name not in ("cache", "version")) == ["studies"]
    assert [path.name for path in (home / "studies" / "nano").iterdir()] == ["tried.json"]
    assert read_tried(Home(home).study("nano"))["train"].exact is False


def test_a_program_is_priced_by_what_was_measured_alone(
    tmp_path: Path, call_ablate: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    from ablative.study.cli import main

    file, home = nano(tmp_path), tmp_path / "home"

    def costs(*words: str) -> dict[str, tuple[float | None, str]]:
        tasks = json.loads(call_ablate(home, "plan", file, "--json", *words))["tasks"]
        return {task["cells"][0]["length"]: (task["cost"]["core_seconds"], task["cost"]["basis"]) for task in tasks}

    assert costs() == {"short": (None, "unknown"), "long": (None, "unknown")}
    text = call_ablate(home, "plan", file)
    assert "no price is known; `ablate try` measures a cell" in " ".join(text.split()) and "FLOPs" not in text
    assert main(["submit", file, "--budget", "1cpuh"], standalone=False) == 2
    assert "no price is known of 4 tasks, such as length=" in capsys.readouterr().err
    # Cut midway: the rest of it follows from its progress, and a run of twice as many steps takes twice as long.
    for minutes in ("0.03", "0.06", "0.12", "0.24"):  # on a busy machine the start takes some of it
        assert main(["try", file, "length=short", "--minutes", minutes], standalone=False) in (0, 1)
        (short, basis), (long, other) = (costs()[level] for level in ("short", "long"))
        if short is not None:
            break
    assert short is not None and long is not None and basis == other == "tried"
    assert 1.5 < short < 30 and long == pytest.approx(2 * short, rel=0.1)
    # A program of another folder has a stage of the same name.
    (tmp_path / "other").mkdir()
    text = call_ablate(home, "plan", nano(tmp_path / "other"))
    assert "no price is known" in text


def test_a_metric_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablative.study.cli import main

    file = nano(tmp_path, metrics={"loss": {"better": "lower", "stdout": r"val_loss (?P<value>[\d.]+)"}})
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["ablate"])
    assert main(["try", file, "length=short", "--config-dir", str(tmp_path)], standalone=False) == 1
    shown = capsys.readouterr().out
    assert "matches none of 60 lines of output" in shown and "train: not seen: train/loss" in shown
    last = shown.partition("last lines: ")[2].splitlines()[0]
    assert "step 60" in last and "Error" not in last and "raise" not in last
