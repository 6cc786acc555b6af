"""Builds the documentation as a site: `python docs/make_site.py`, or `make docs`; it opens from the disk.

The reference is made of the typed configurations and the command line, and is kept nowhere else: a key, a command or a
file of a home without a docstring ends the build, and so does a link that leads nowhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import yaml

from ablative.reports.store.queries import SQL, description
from ablative.study.cli import COMMANDS, SUMMARIES
from ablative.study.core.registry import load
from ablative.study.discovery.catalogue import catalogue
from ablative.study.discovery.environment import EXIT_CODES, IN_JOBS, VARIABLES
from ablative.study.discovery.home_files import HOME, home_files
from ablative.study.discovery.keys import Key
from ablative.study.plan.plan import make_plan

DOCS = Path(__file__).parent
ROOT = DOCS.parent
BUILD = ROOT / "build" / "docs"
GROUPS = ("model", "objective", "schedule", "data", "suite", "protocol", "runtime", "cluster")
ELSEWHERE = re.compile(r'<script[^>]+src="https?://[^"]*"[^>]*></script>')
SHIM = '<script src="{}assets/worker.js"></script>'
WORKER = """// A page that is opened from the disk starts no worker for its search: a hidden frame takes its place.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe"), waiting = [];
      frame.hidden = true;
      frame.srcdoc = "<script>post = window.postMessage.bind(window); postMessage = m => parent.postMessage(m, '*')</" +
        "script><script src='" + url + "'></" + "script>";
      addEventListener("message", event => {
        if (event.source !== frame.contentWindow) return;
        const copy = new MessageEvent("message", {data: event.data});
        this.dispatchEvent(copy);
        if (this.onmessage) this.onmessage(copy);
      });
      frame.addEventListener("load", () => {
        this.postMessage = message => frame.contentWindow.post(message, "*");
        waiting.splice(0).forEach(this.postMessage);
      });
      this.postMessage = message => waiting.push(message);
      document.body.appendChild(frame);
    }
    terminate() {}
  };
"""


def build(folder: Path = BUILD) -> Path:
    """The site's folder, which is made anew; raises CalledProcessError for what Zensical refuses."""
    source = folder / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    write_pages(source)
    config = yaml.safe_load((DOCS / "mkdocs.yml").read_text())
    (folder / "mkdocs.yml").write_text(yaml.safe_dump({**config, "docs_dir": "pages", "site_dir": "site"}))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(folder / "mkdocs.yml")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(1)
    for page in (folder / "site").rglob("*.html"):
        own = SHIM.format("../" * (len(page.relative_to(folder / "site").parts) - 1))
        page.write_text(ELSEWHERE.sub(own, page.read_text()))
    return folder / "site"


def write_pages(source: Path) -> None:
    """The pages that are written by hand, and those that are made."""
    for path in (path for path in DOCS.rglob("*") if path.suffix in (".md", ".png", ".svg", ".pdf", ".html", ".yaml")):
        target = source / path.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(_for_the_site(path.read_text()))
        else:
            shutil.copyfile(path, target)
    (source / "examples.md").write_text(_for_the_site(_examples()))
    (source / "assets").mkdir()
    shutil.copyfile(DOCS / "site.css", source / "assets" / "site.css")
    (source / "assets" / "worker.js").write_text(WORKER)
    (source / "reference").mkdir()
    for name, make in PAGES.items():
        (source / "reference" / f"{name}.md").write_text(make())


def _for_the_site(text: str) -> str:
    """Links to files outside of the documentation become their names: the site has no copy of them."""
    text = re.sub(r"```mermaid\n.*?```\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\(\.\./examples/?([^)]*)\)", r"[\1](examples.md)", text)
    return re.sub(r"\[(`?[^\]]*?`?)\]\((?:\.\./)+([^)#]*)[^)]*\)", r"\1", text)


def _examples() -> str:
    parts = ["# Examples", "", (ROOT / "examples" / "README.md").read_text().partition("\n")[2].strip()]
    for study in sorted((ROOT / "examples").glob("*/study.yaml")):
        parts += [f"\n## {study.parent.name}\n", f"```yaml\n{study.read_text()}```"]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """A text in a table: a bar between backticks is no end of the cell there."""
    parts = text.split("`")
    return "`".join(part if place % 2 else part.replace("|", "\\|") for place, part in enumerate(parts))


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]] | list[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _keys(found: Sequence[Key]) -> str:
    def row(key: Key) -> Sequence[str]:
        value = ", ".join(f"`{choice}`" for choice in key.choices if choice) or key.kind
        value = f"{value}, {key.limits}" if key.limits else value
        return f"`{key.name}`", value, f"`{key.default}`" if key.default else "required", key.meaning

    return _table(("key", "value", "default", "meaning"), [row(key) for key in found])


def _study() -> str:
    parts = [
        "# Study file\n",
        "`NAME` is what you choose, `[]` an item of a list. One item may be written without the list. "
        "In the terminal: `ablate keys`.\n",
    ]
    every, own = [], {"clip": [], "program": []}  # type: ignore[var-annotated]
    for key in catalogue():
        if key.name.partition(".")[0] in GROUPS:
            continue
        own.get(key.owner, every).append(key)
    sections: dict[str, list[Key]] = {}
    for key in every:
        sections.setdefault(key.name.partition(".")[0], []).append(key)
    single = [found[0] for found in sections.values() if len(found) == 1]
    parts += ["## Top level\n", _keys(single)]
    for name, found in sections.items():
        if len(found) > 1:
            parts += [f"## {name}\n", _keys(found)]
    parts += ["## Of the shipped trainer\n", _keys(own["clip"]), "## Of one's own code\n", _keys(own["program"])]
    return "\n".join(parts)


def _groups() -> str:
    parts = [
        "# Config groups\n",
        "`ablate list GROUP` lists the options of one, `ablate list GROUP.OPTION` prints its file.\n",
    ]
    for group in GROUPS:
        parts += [f"## {group}\n", _keys([key for key in catalogue() if key.name.partition(".")[0] == group])]
    return "\n".join(parts)


def _metrics() -> str:
    plan = make_plan("demo", without_data=True)
    rows = [
        (f"`{metric.name}`", metric.unit, metric.better, f"{metric.label} {metric.data_set}".strip())
        for metric in plan.declared.values()
    ]
    intro = (
        "A metric is `STAGE/NAME`. A study of your own code declares its metrics (`stages.NAME.metrics`); these are "
        "those of the shipped study `demo`. `ablate metrics STUDY` lists a study's.\n"
    )
    return "\n".join(["# Metrics\n", intro, _table(("metric", "unit", "better", "is"), rows)])


def _commands() -> str:
    parts = [
        "# Commands\n",
        _table(("command", ""), [(f"[`{name}`](#ablate-{name})", text) for name, text in SUMMARIES.items()]),
    ]
    for name in SUMMARIES:
        command = load(COMMANDS[name])
        both = (
            {name: command}
            if not isinstance(command, click.Group)
            else {name: command} | {f"{name} {sub}": each for sub, each in command.commands.items()}
        )
        for words, each in both.items():
            parent = click.Context(click.Command("ablate"), info_name="ablate")
            text = each.get_help(click.Context(each, info_name=words, parent=parent, terminal_width=100))
            parts += [f"## ablate {words}\n", f"```\n{text}\n```\n"]
    return "\n".join(parts)


def _environment() -> str:
    parts = ["# Environment and exit codes\n"]
    for heading, first, found in (
        ("Variables that you set", "variable", VARIABLES),
        ("Variables that a program finds in a job", "variable", IN_JOBS),
        ("Exit codes", "code", EXIT_CODES),
    ):
        parts += [f"## {heading}\n", _table((first, "meaning"), [(f"`{name}`", text) for name, text in found.items()])]
    return "\n".join(parts)


def _files() -> str:
    intro = f"Below `{HOME}`. `<task>` is `runs/<run id>`, or `runs/<run id>/evaluations/<task id>`.\n"
    return "\n".join(
        ["# Files of a home\n", intro, _table(("file", "what"), [(f"`{name}`", text) for name, text in home_files()])]
    )


def _sql() -> str:
    parts = ["# SQL views\n", "`ablate sql STUDY` lists the views of a study with their columns; DuckDB's dialect.\n"]
    for path in sorted((SQL / "marts").glob("*.sql")):
        if not (text := description(path.read_text())):
            raise SystemExit(f"{path} has no comment")
        parts += [f"## {path.stem}\n", f"{text}\n"]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "study": _study,
    "groups": _groups,
    "metrics": _metrics,
    "commands": _commands,
    "environment": _environment,
    "files": _files,
    "sql": _sql,
}

if __name__ == "__main__":
    print(build() / "index.html")
