"""Tables in a paper of one column and of two: each compiles alone and with all others, none is wider than the text."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from missing import program

from ablative.reports.stats.columns import Delta
from ablative.reports.stats.summary import Summary
from ablative.reports.tables.escape import LATEX_SPECIAL, PRINTED, unknown_to_pdflatex
from ablative.reports.tables.latex_tables import fit, render_latex, too_wide
from ablative.reports.tables.printed import block_levels, blocks
from ablative.reports.tables.renderers import render_csv
from ablative.reports.tables.tables import Column, Entry, Row, Table
from ablative.reports.write import make_pdf
from ablative.study.core.errors import ConfigError
from ablative.study.syntax.text_width import LAYOUTS, text_widths

PAPERS = {
    "one-column": r"\documentclass{article}\usepackage[textwidth=5.5in]{geometry}",
    "two-column": r"\documentclass[twocolumn]{article}\usepackage[textwidth=6.875in,columnsep=.375in]{geometry}",
}
LEVELS = ("λ = 0.1 †", "✓ → ✗", "é_b & 50 %", "<5", "≥ 10⁻³", "a long name of a level")


def grid(columns: int, delta: bool = False, name: str = "t", label: str = "top-1 accuracy") -> Table:
    """A table of six rows with so many columns."""
    error = Delta(-1.5, -12.5, 10.5, 0.02) if delta else None
    entry = Entry("{}", Summary(3, 71.25, 12.5), 3, best=True, delta=-1.5 if delta else None, error=error, ratio=1.0)
    entry = entry if delta else dataclasses.replace(entry, ratio=None)
    own = tuple(Column(label, f"Group {i // 3}", "", 1, (f"a/{i}",), True) for i in range(columns))
    rows = tuple(Row((level, f"p{i}"), (entry,) * columns) for i, level in enumerate(LEVELS))
    return Table(
        name, "A table of λ & 50 %", ("method", "pooling"), "", own, rows, ("A note of 5 % about zero_shot/x.",)
    )


def compiled(folder: Path, layout: str, texts: Sequence[str]) -> list[str]:
    """Boxes of a paper with these texts that are wider than its text; it must compile."""
    packages = {name for text in texts for name in re.findall(r"\w+", text.splitlines()[0].partition("{")[2])}
    for i, text in enumerate(texts):
        (folder / f"t{i}.tex").write_text(text)
    head = (
        PAPERS[layout] + rf"\usepackage[utf8]{{inputenc}}\usepackage[T1]{{fontenc}}\usepackage{{{','.join(packages)}}}"
    )
    body = "\n".join(rf"\input{{t{i}}}" for i in range(len(texts)))
    (folder / "paper.tex").write_text(f"{head}\\begin{{document}}\n{body}\n\\end{{document}}\n")
    command = [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, timeout=120)
    log = (folder / "paper.log").read_text(errors="replace")
    assert done.returncode == 0, log[-1500:]
    assert "multiply defined" not in log
    return [line for line in log.splitlines() if line.startswith("Overfull")]


@pytest.mark.parametrize("layout", PAPERS)
def test_tables_of_any_size_fit_the_text(tmp_path: Path, layout: str) -> None:
    tables = [
        grid(1, name="a"),
        grid(3, True, name="b"),
        grid(7, name="c"),
        grid(12, name="d"),
        grid(4, True, name="e"),
    ]
    texts = [render_latex(table, study, LAYOUTS[layout]) for table in tables for study in ("one", "other")]
    assert compiled(tmp_path, layout, texts) == []
    if layout == "one-column":
        assert compiled(tmp_path, layout, texts[4:5]) == []  # alone, with no more than the packages that it names


def test_narrow_tables_stay_in_their_column_and_what_cannot_fit_is_said() -> None:
    widths = LAYOUTS["two-column"]
    assert [fit(grid(columns), widths).wide for columns in (1, 9)] == [False, True]
    assert r"\begin{table*}" in render_latex(grid(9), "s", widths)
    assert r"\begin{table}" in render_latex(grid(1), "s", widths)
    assert too_wide(grid(9), widths) == ""
    message = too_wide(grid(16), LAYOUTS["one-column"])
    assert re.search(r"'t' needs 6\.\d in at 7 pt, and the text has 5\.5 in.* report\.width=two-column or 6", message)
    assert r"\resizebox" in render_latex(grid(20)) and "graphicx" in render_latex(grid(20)).splitlines()[0]


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (
            "two-colum",
            "unknown width 'two-colum'; did you mean 'two-column'? (allowed: one-column, two-column), or a length",
        ),
        ("5.5", "or a length (5.5in, 5.5cm"),
        ("5 inch", "unknown unit 'inch'; did you mean 'in'?"),
        ("0.2in", "a text is 1 to 40 inches wide"),
    ],
)
def test_a_width_that_is_none_is_refused(width: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        text_widths(width, "a.yaml: report.width")
    assert message in str(error.value)
    assert text_widths("140mm", "") == pytest.approx((398.3,), abs=0.1)


def test_rows_around_a_baseline_are_blocks_of_what_differs() -> None:
    factors, baseline = ("method", "pooling", "masking"), {"method": "clip", "pooling": "map"}
    rows = [
        ("clip", "gap", ""),
        ("mae", "", ""),
        ("clip", "map", ""),
        ("mae_clip", "map", "random"),
        ("clip", "max", ""),
    ]
    found = blocks(rows, factors, baseline)
    assert list(found.items()) == [
        (("clip", "map", ""), ""),
        (("mae", "", ""), "method"),
        (("mae_clip", "map", "random"), "method"),
        (("clip", "gap", ""), "pooling"),
        (("clip", "max", ""), "pooling"),
    ]
    shown = [
        block_levels(Row(row, ()), factors, changed, baseline, dict(zip(factors, row, strict=True)))
        for row, changed in found.items()
    ]
    assert shown == ["clip, map", "mae", "mae_clip (random)", "gap", "max"]


def test_a_spreadsheet_computes_no_level() -> None:
    levels = ("=1+1", "+x", "-1", "@a", "-x", "a=b")
    rows = tuple(Row((level,), (Entry("{}", None, 1, missing="failed"),)) for level in levels)
    table = Table("t", "t", ("=f",), "", (Column("m", "", "", 1, (), True),), rows, ())
    lines = render_csv(table).splitlines()
    assert [line.split(",")[0] for line in lines] == ["'=f", "'=1+1", "'+x", "-1", "'@a", "'-x", "a=b"]


def test_every_character_that_is_said_to_print_compiles(tmp_path: Path) -> None:
    """One table with all of them, and with an accent that is a character of its own."""
    level = " ".join({*map(chr, LATEX_SPECIAL), *PRINTED} - {"\n"}) + " e\N{COMBINING ACUTE ACCENT}"
    text = render_latex(dataclasses.replace(grid(1), rows=(Row((level, "p"), grid(1).rows[0].entries),)))
    assert unknown_to_pdflatex(text) == []
    compiled(tmp_path, "one-column", [text])


def test_what_pdflatex_cannot_print_is_named(tmp_path: Path) -> None:
    table = dataclasses.replace(grid(1), title="模型 λ é ✓")
    assert unknown_to_pdflatex(render_latex(table)) == ["型", "模"]
    path = tmp_path / "main.tex"
    path.write_text(render_latex(dataclasses.replace(table, notes=("A note on 模 and 型",))))
    assert make_pdf("t", [path], tmp_path / "t.pdf").startswith(
        r"pdflatex lacks 型模 in '模型 $\lambda$ é $\checkmark$' (main.tex); give such a name another text for LaTeX"
    )
    assert "lualatex" in render_latex(table).splitlines()[0] and "lualatex" not in render_latex(grid(1)).splitlines()[0]
