"""The README is run: its study is saved, its commands are executed in order, its links and targets exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
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
QUICK = (
    "schedule.steps=2",
    "schedule.warmup_steps=1",
    "seeds=[0]",
    "drop=[{method: [random_init, mae, m3ae, masked_clip]}, {scale: small}, {pooling: [gap, max]}]",
    "claims={}",
    "effects={}",
)
"""The demo in seconds: enough to see every command work on it."""


def run(words: list[str], folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from ablative.study.cli import main; main()"]
    environment = {**os.environ, "ABLATE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        program + words, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the README's own study and a few captioned images."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("readme")
    study = next(block for language, block in BLOCKS if language == "yaml")
    (folder / "my" / "study").mkdir(parents=True)
    (folder / "my" / "study" / "first.yaml").write_text(study)
    rows = ["image,caption"]
    for i in range(2000):
        Image.new("RGB", (40, 40), (i % 256, i // 8, 7 * i % 256)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,a plain square number {i}")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


def test_the_first_study_of_ones_own(folder: Path) -> None:
    commands = [shlex.split(command)[1:] for command in COMMANDS if " first" in command and "webdataset" not in command]
    assert len(commands) == 5
    for words in commands:
        done = run(words, folder, folder / "home")
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    page = folder / "home" / "studies" / "first" / "report" / "index.html"
    assert "first" in page.read_text()


def test_data_commands_and_shards_of_ones_own(folder: Path) -> None:
    for command in (command for command in COMMANDS if command.startswith("ablate data")):
        done = run(shlex.split(command)[1:], folder, folder / "home")
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    inline = next(line for line in re.findall(r"`(ablate [^`]*)`", TEXT) if "webdataset" in line)
    words = shlex.split(inline)[1:]
    done = run(words, folder, folder / "home")
    assert done.returncode == 0, done.stderr


def test_every_day(folder: Path) -> None:
    """Each command of the section on the shipped demo, shortened; ids are those of the shortened demo."""
    home = with_store(folder / "demo")
    quick = list(QUICK)
    plan = json.loads(run(["plan", "demo", *quick, "--json"], folder, home).stdout)
    first = plan["tasks"][0]["task_id"]
    section = TEXT.split("## Every day")[1].split("```")[1]
    names = [line.split()[1] for line in section.splitlines() if line.startswith("ablate")]
    assert names == ["list", "submit", "status", "logs", "cancel", "retry", "sync", "report", "doctor"]
    wanted = {"submit": 0, "status": 0, "cancel": 0, "retry": 0, "sync": 0, "report": 0, "list": 0, "doctor": 0}
    for line in (line for line in section.splitlines() if line.startswith("ablate")):
        words = shlex.split(line.split("#")[0])[1:]
        if words[0] == "logs":
            words = ["logs", "demo", first] if words[1] == "demo" else ["logs", first]
            run(["run", "demo", *quick], folder, home)
        elif "demo" in words:
            words[2:2] = quick
        done = run(words, folder, home)
        assert done.returncode == wanted.get(words[0], 0), f"{words}\n{done.stdout}\n{done.stderr}"


def test_links_targets_and_places_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", TEXT):
        assert f"\n{target}:" in makefile, target
    for name in re.findall(r"^ablate (\w+)", "\n".join(COMMANDS), re.MULTILINE):
        from ablative.study.core.registry import COMMANDS as KNOWN

        assert name in KNOWN
