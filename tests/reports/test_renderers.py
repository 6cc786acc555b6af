"""Markdown, LaTeX, CSV and HTML of one model: exact text, escapes, and identical bytes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import click
import numpy as np
import pytest
import stores
from missing import program

from ablative.reports.build import report
from ablative.reports.provenance.sidecar import json_line, render_json
from ablative.reports.stats.columns import Delta
from ablative.reports.stats.summary import Summary
from ablative.reports.store.warehouse import Source
from ablative.reports.tables.escape import latex
from ablative.reports.tables.html_table import render_html
from ablative.reports.tables.latex_tables import render_latex
from ablative.reports.tables.renderers import render_csv, render_markdown
from ablative.reports.tables.tables import Column, Entry, Row, Table
from ablative.reports.terminal import table_text
from ablative.study.plan.plan import Plan

COLUMNS = (
    Column("top-1", "Zero-shot", "small", 1, ("zero_shot/a/top1",), True),
    Column("top-1", "Zero-shot", "large", 2, ("zero_shot/a/top1",), True),
)
TABLE = Table(
    "t",
    "Pooling & <script>alert(1)</script>",
    ("method",),
    "scale",
    COLUMNS,
    (
        Row(
            ("a_b",),
            (
                Entry(
                    "{}",
                    Summary(2, 71.25, 0.5),
                    3,
                    (Source(0, "r" * 12, "c", 71.25),),
                    -1.5,
                    best=True,
                    ci_half_width=4.5,
                    error=Delta(-1.5, -2.5, -0.5, 0.02),
                ),
                Entry("{}", None, 3, missing="failed", detail="seed 0: failed: data"),
            ),
        ),
        Row(("<b>|*x*",), (Entry("{}", Summary(1, 7.0, None), 1), Entry("", None, 0, missing="–"))),
    ),
    ("A note: 5 % of $x_1$.",),
)


def test_markdown() -> None:
    assert render_markdown(TABLE) == (
        "### Pooling &amp; &lt;script&gt;alert(1)&lt;/script&gt;\n\n"
        "| method | small / Zero-shot / top-1 | small / Zero-shot / top-1, Δ | large / Zero-shot / top-1 |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| a\\_b | **71.2** ± 0.5 (2/3) | −1.5 [−2.5, −0.5] | failed |\n"
        "| &lt;b&gt;\\|\\*x\\* | 7.0 |  | – |\n\n"
        "A note: 5 % of $x\\_1$.\n"
    )


def test_latex() -> None:
    lines = render_latex(TABLE, "study").splitlines()
    assert lines[lines.index(r"\toprule") : lines.index(r"\bottomrule") + 1] == [
        r"\toprule",
        r"& \multicolumn{2}{c}{scale: small} & \multicolumn{1}{c}{scale: large} \\",
        r"\cmidrule(lr){2-3}",
        r"\cmidrule(lr){4-4}",
        r"& \multicolumn{2}{c}{Zero-shot} & \multicolumn{1}{c}{Zero-shot} \\",
        r"\cmidrule(lr){2-3}",
        r"\cmidrule(lr){4-4}",
        r"method & top-1 & $\Delta$ & top-1 \\",
        r"\midrule",
        r"a\_b & \textbf{71.2} $\pm$ 0.5 (2/3) & $-$1.5 [$-$2.5, $-$0.5] & failed \\",
        r"\textless{}b\textgreater{}\textbar{}*x* & 7.0 &  & -- \\",
        r"\bottomrule",
    ]
    assert r"\caption{Pooling \& \textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{}}" in lines
    assert any(r"5 \% of \$x\_1\$." in line for line in lines)


def test_every_special_character_of_latex_is_escaped() -> None:
    assert latex("\\ & % $ # _ { } ~ ^") == (
        r"\textbackslash{} \& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{}"
    )


def test_latex_compiles(full: Plan, tmp_path: Path) -> None:
    odd = dataclasses.replace(TABLE, title='\\ & % $ # _ { } ~ ^ < > | " ± – − Δ × → ≥ ≤ é')
    body = render_latex(odd) + render_latex(stores.one_table(full, "main"), "pooled")
    text = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n" + body + "\\end{document}\n"
    (tmp_path / "paper.tex").write_text(text)
    command = [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_csv_has_every_number_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(TABLE))))
    assert rows[0] == {
        "method": "a_b", "column": "small / Zero-shot / top-1", "mean": "71.25", "sd": "0.5", "half_ci": "4.5",
        "n": "2", "planned": "3", "delta": "-1.5", "delta_low": "-2.5", "delta_high": "-0.5", "delta_p": "0.02",
        "best": "1", "state": "", "runs": "r" * 12,
    }  # fmt: skip
    assert (rows[1]["mean"], rows[1]["n"], rows[1]["state"]) == ("", "0", "failed")
    assert len(rows) == 4


class Tags(HTMLParser):
    """Counts elements and collects text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_semantic_and_escaped() -> None:
    html = render_html(TABLE)
    parser = Tags()
    parser.feed(html)
    assert not parser.open and "script" not in parser.tags
    assert parser.tags.count("caption") == 1 and parser.tags.count("td") == 6
    assert '<th scope="row">&lt;b&gt;|*x*</th>' in html
    assert "<td><b>71.2</b><small class=w11> ± 0.5 (2/3)</small>" in html and "&lt;script&gt;" in html


def test_the_sidecar_holds_runs_and_query() -> None:
    found = json.loads(render_json(TABLE))
    entry = found["rows"][0]["entries"][0]
    assert found["run"] == ["seed", "run_id", "commit"]
    assert found["run_sets"][entry["runs"]] == [[0, "r" * 12, "c"]] and entry["values"] == [71.25]
    assert "sd" not in found["rows"][1]["entries"][0] and found["rows"][1]["entries"][1]["state"] == "–"
    assert entry["value"] == 71.25 and entry["n"] == 2
    assert entry["interval"] == [66.75, 75.75] and entry["delta_interval"] == [-2.5, -0.5] and entry["best"]
    assert "from results" in found["columns"][0]["query"]


def test_a_line_of_json_has_the_numbers_of_numpy_and_of_subclasses() -> None:
    class Share(float):
        pass

    value = {
        "é": [np.float64(0.1), np.int64(3), np.bool_(True), np.float64("nan"), Share(0.5)],
        "run": Source(0, "r", "c", 1e22),
    }
    assert json.loads(json_line(value)) == {"é": [0.1, 3, True, None, 0.5], "run": [0, "r", "c", 1e22]}
    with pytest.raises(TypeError):
        json_line({"path": Path()})


def test_the_same_store_gives_the_same_bytes(full: Plan, tmp_path: Path) -> None:
    a = report(full, tmp_path / "a", ["md", "csv", "tex", "html"])
    report(full, tmp_path / "b", ["md", "csv", "tex", "html"])
    written = [path for path in a.paths if path.is_relative_to(tmp_path)]
    assert len(written) == 3 * 5 + 3 * 5 + 1 + 2 + 2 + 2  # tables, figures, page, numbers, compute, statistics
    for path in written:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_chosen_formats_only(full: Plan, tmp_path: Path) -> None:
    result = report(full, tmp_path, ["md"])
    assert [path.name for path in result.paths] == ["main.md", "factors.md", "suite.md"]


def test_columns_that_a_terminal_has_no_room_for_go_below_the_others() -> None:
    whole, narrow = (click.unstyle(table_text(TABLE, room)).splitlines() for room in (None, 40))
    [line] = [line for line in whole if "a_b" in line]
    assert line.split() == ["a_b", "71.2", "±", "0.5", "(2/3)", "−1.5", "[−2.5,", "−0.5]", "failed"]
    numbers = narrow[1 : narrow.index("A note: 5 % of $x_1$.")]
    assert max(map(len, numbers)) <= 40
    assert sum("a_b" in line for line in numbers) == sum("─" in line for line in numbers) > 1
    assert [word for line in numbers if "a_b" in line for word in line.split()[1:]] == line.split()[1:]
    assert table_text(dataclasses.replace(TABLE, columns=(), rows=()), 40).startswith(TABLE.title)
