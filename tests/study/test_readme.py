"""README and the documentation are run: studies are saved, commands executed in order, links and targets exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from shared import with_store

from ablative.study.cli import COMMANDS
from ablative.study.core.registry import load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
PAGES = {"README": TEXT} | {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
"""Page → its text; `own_code`, `existing_results` and `extending` have tests that run the whole of them."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The words after `ablate` of each line of a page's blocks, in order."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ablate")]


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
    study = next(block for block in blocks("tutorial", "yaml") if "name: first" in block)
    assert study in PAGES["README"]
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
    found = commands("tutorial")
    assert [words[0] for words in found] == ["plan", "run", "status", "why", "diff", "config"]
    assert all(words in found for words in commands("README") if "first" in words)
    with_store(folder / "home")
    monkeypatch.chdir(folder)
    for words in found:
        call_ablate(folder / "home", *words, *(("seeds=[0]", *SMALL_SETS) if words[0] != "diff" else ()))
    page = folder / "home" / "studies" / "first" / "report" / "index.html"
    assert "first" in page.read_text()


def test_data_commands_and_shards_of_ones_own(
    folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for words in commands("data"):
        call_ablate(folder / "home", *words)
    inline = next(line for line in re.findall(r"`(ablate [^`]*)`", PAGES["data"]) if "webdataset" in line)
    call_ablate(folder / "home", *shlex.split(inline)[1:])


def test_every_day(folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the section on the shipped demo, shortened; ids are those of the shortened demo."""
    home = with_store(folder / "demo")
    monkeypatch.chdir(folder)
    plan = json.loads(call_ablate(home, "plan", "demo", *QUICK, "--json"))
    first = plan["tasks"][0]["task_id"]
    found = commands("running")
    names = [words[0] for words in found]
    assert names[:6] == ["list", "submit", "status", "logs", "cancel", "retry"]
    assert names[6:] == ["sync", "report", "doctor", "doctor", "status", "status"]
    for words in found:
        if words[0] == "logs":
            words = ["logs", first]
            call_ablate(home, "run", "demo", *QUICK)
        elif "demo" in words:
            words[2:2] = QUICK
        printed = call_ablate(home, *words)
        if words[0] == "logs":
            begins, ends = printed.index("attempt 1 of "), printed.index("completed after ")
            assert begins < printed.index(" step 2/2  loss ") < ends and f"/{first}/config.yaml" in printed
    for words in commands("mlflow"):
        call_ablate(home, words[0], "demo", *QUICK, *words[2:])


def test_what_the_other_pages_plan(
    folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that start nothing; of the others, that the command takes the words."""
    monkeypatch.chdir(folder)
    (folder / "my" / "cluster").mkdir(exist_ok=True)
    (folder / "my" / "cluster" / "site.yaml").write_text(blocks("slurm", "yaml")[0])
    for page in ("claims", "explanation", "slurm", "homes", "papers"):
        for words in commands(page):
            if words[0] in ("plan", "diff", "config") and "--script" not in words and "data" not in words:
                assert call_ablate(folder / "home", *words)
    for page in set(PAGES) - {"extending", "own_code", "existing_results"}:
        for words in commands(page):
            command = load(COMMANDS[words[0]])
            if isinstance(command, click.Group):
                words, command = words[1:], command.commands[words[1]]
            command.make_context(words[0], words[1:])


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page, text in PAGES.items():
        for target in re.findall(r"`make (\w+)", text):
            assert f"\n{target}:" in makefile, (page, target)


def test_the_readme_is_two_screens() -> None:
    assert len(TEXT.splitlines()) <= 100 and TEXT.index("![") < TEXT.index("## Install")
    for block in (blocks("README", "yaml")[0], blocks("tutorial", "yaml")[0]):
        assert len(block.splitlines()) <= 12


def test_the_site_is_built_and_needs_nothing_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strictly: a link that leads nowhere, and a key, a command or a file without a docstring, are errors."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    spec = importlib.util.spec_from_file_location("make_site", ROOT / "docs" / "make_site.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    site = module.build(tmp_path / "docs")
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]  # whose links begin at a server
    assert {page.stem for page in pages} >= {*PAGES} - {"README"} | {"study", "groups", "commands", "files", "sql"}
    for page in pages:
        text = page.read_text()
        assert not re.findall(
            r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//[^"]*|<link[^>]+stylesheet[^>]+href="http', text
        )
        for target in re.findall(r'<a[^>]+href="(?!https?:)([^"#]+)', text):
            assert (page.parent / target).exists(), (page, target)
    assert "claims.NAME.margin" in (site / "reference" / "study.html").read_text()
