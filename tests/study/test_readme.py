"""The README is run: its study is saved, its commands are executed in order, its links and targets exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from shared import with_store

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("ablate")
]
SETS = ("shape", "color", "texture", "object", "count", "distance", "orientation", "location")
SMALL_SETS = (
    *(f"suite.datasets.shapes_{name}.{split}=80" for name in SETS for split in ("train", "test")),
    "suite.datasets.shapes.test=40",
    "suite.datasets.digits.train=80",
    "cluster.jobs=1",
)
"""Evaluations in a tenth of their time, one after the other: a second worker would import torch a second time."""
QUICK = (
    *SMALL_SETS,
    "schedule.steps=2",
    "schedule.warmup_steps=1",
    "seeds=[0]",
    "factors.scale={small: {data.pairs: 100}, large: {data.pairs: 200}}",
    "drop=[{method: [random_init, mae, m3ae, masked_clip, mae_clip]}, {scale: small}, {pooling: [gap, max]}]",
    "claims={}",
    "effects={}",
    "figures={}",
)
"""The demo in seconds: enough to see every command work on it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the README's own study and a few captioned images."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("readme")
    study = next(block for language, block in BLOCKS if language == "yaml" and "name: first" in block)
    (folder / "my" / "study").mkdir(parents=True)
    (folder / "my" / "study" / "first.yaml").write_text(study)
    rows = ["image,caption"]
    for i in range(2000):
        Image.new("RGB", (40, 40), (i % 256, i // 8, 7 * i % 256)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,a plain square number {i}")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


def test_the_first_study_of_ones_own(
    folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands, on one seed and small evaluation sets."""
    commands = [shlex.split(command)[1:] for command in COMMANDS if " first" in command and "webdataset" not in command]
    assert len(commands) == 6
    with_store(folder / "home")
    monkeypatch.chdir(folder)
    for words in commands:
        call_ablate(folder / "home", *words, *(("seeds=[0]", *SMALL_SETS) if words[0] != "diff" else ()))
    page = folder / "home" / "studies" / "first" / "report" / "index.html"
    assert "first" in page.read_text()


def test_data_commands_and_shards_of_ones_own(
    folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for command in (command for command in COMMANDS if command.startswith("ablate data")):
        call_ablate(folder / "home", *shlex.split(command)[1:])
    inline = next(line for line in re.findall(r"`(ablate [^`]*)`", TEXT) if "webdataset" in line)
    call_ablate(folder / "home", *shlex.split(inline)[1:])


def test_every_day(folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the section on the shipped demo, shortened; ids are those of the shortened demo."""
    home = with_store(folder / "demo")
    monkeypatch.chdir(folder)
    plan = json.loads(call_ablate(home, "plan", "demo", *QUICK, "--json"))
    first = plan["tasks"][0]["task_id"]
    section = TEXT.split("## Every day")[1].split("```")[1]
    names = [line.split()[1] for line in section.splitlines() if line.startswith("ablate")]
    assert names == ["list", "submit", "status", "logs", "cancel", "retry", "sync", "report", "doctor", "doctor"]
    for line in (line for line in section.splitlines() if line.startswith("ablate")):
        words = shlex.split(line.split("#")[0])[1:]
        if words[0] == "logs":
            words = ["logs", "demo", first] if words[1] == "demo" else ["logs", first]
            call_ablate(home, "run", "demo", *QUICK)
        elif "demo" in words:
            words[2:2] = QUICK
        printed = call_ablate(home, *words)
        if words[0] == "logs":
            begins, ends = printed.index("attempt 1 of "), printed.index("completed after ")
            assert begins < printed.index(" step 2/2  loss ") < ends and f"/{first}/config.yaml" in printed


def test_links_targets_and_places_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", TEXT):
        assert f"\n{target}:" in makefile, target
    for name in re.findall(r"^ablate (\w+)", "\n".join(COMMANDS), re.MULTILINE):
        from ablative.study.cli import COMMANDS as KNOWN

        assert name in KNOWN
