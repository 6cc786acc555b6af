"""The papers' tables from `paper_results.csv`: every value once, exactly as the papers' own text has them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from missing import program

from ablative.reports.reference.checks import averages, averages_table, repeats
from ablative.reports.reference.declarations import declared_tables, place_values
from ablative.reports.reference.printed import printed_table, printed_tables
from ablative.reports.reference.publish import publish
from ablative.reports.reference.values import PAPERS, printed_values
from ablative.reports.tables.renderers import render_csv, render_markdown
from ablative.reports.tables.tables import Row, Table
from ablative.study.cli import main
from ablative.study.core.errors import ConfigError

TABLES = {table.name: table for paper in PAPERS for table in printed_tables(paper)}


def as_text() -> dict[str, list[list[str]]]:
    """Table -> lines of cells, from the papers' text: headers, then rows; bold where that text shows it."""
    found: dict[str, list[list[str]]] = {}
    for line in (Path(__file__).parent / "printed_tables.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            found[line[2:]] = lines = []
        else:
            lines.append([cell.strip() for cell in line.split("|")])
    return found


TEXT = as_text()


def cells(row: Row, bold: bool) -> list[str]:
    numbers = [entry.literal or entry.missing for entry in row.entries]
    marked = [f"**{text}**" if entry.best and bold else text for text, entry in zip(numbers, row.entries, strict=True)]
    return [*row.levels, *marked]


def test_both_papers_are_whole() -> None:
    assert list(TABLES) == list(TEXT)
    assert [name.removeprefix("mae_clip_") for name in TABLES if name.startswith("mae_clip")] == [
        "1", "2", "3", "4", "5", "6", "7", "9", "10", "11", "12", "13", "14", "15a", "15b",
    ]  # fmt: skip
    assert len(printed_values("mae_clip")) + len(printed_values("maskclip")) == 947


@pytest.mark.parametrize("paper", PAPERS)
def test_every_value_is_rendered_once(paper: str) -> None:
    used: Counter[object] = Counter()
    for name, table in declared_tables(paper).tables.items():
        for values in place_values(paper, name, table).values():
            used.update(values)
    assert used == Counter(printed_values(paper))


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_the_papers_text(name: str) -> None:
    # MaskCLIP's text says which numbers are bold, but shows none.
    bold = name not in ("maskclip_5", "maskclip_6")
    rows = [cells(row, bold) for row in TABLES[name].rows]
    assert rows == TEXT[name][-len(rows) :]


@pytest.mark.parametrize("name", TABLES)
def test_headers_are_the_papers_text(name: str) -> None:
    """Every word of the header lines, in the order of the columns, and no other (VTAB's coloured dots aside)."""
    table = TABLES[name]
    printed = " ".join(cell for line in TEXT[name][: -len(table.rows)] for cell in line if cell).split()
    ours: list[str] = [*table.factors]
    for part in ("split", "group", "label"):
        texts = [(column.split, column.group, getattr(column, part)) for column in table.columns]
        ours += [text for *_, text in (texts if part == "label" else dict.fromkeys(texts)) if text]
    words = " ".join(text for text in ours if not text.startswith("VTAB/")).split()
    if name == "maskclip_6":  # R@1, R@5, R@10 stand in the text once, not four times
        words = [*dict.fromkeys(words), "image-to-text", "text-to-image"]
    assert sorted(words) == sorted(printed)
    labels = [column.label.split()[0] for column in table.columns]
    last = [cell.split()[0] for cell in TEXT[name][-len(table.rows) - 1] if cell]
    assert name in ("maskclip_4", "maskclip_6", "mae_clip_4", "maskclip_2") or last[-len(labels) :] == labels


def test_bold() -> None:
    bold = {
        name: [entry.literal for row in table.rows for entry in row.entries if entry.best]
        for name, table in TABLES.items()
    }
    assert {name for name, marked in bold.items() if marked} == {
        "mae_clip_3", "mae_clip_4", "mae_clip_7", "maskclip_5", "maskclip_6",
    }  # fmt: skip
    # Twelve columns, each won by MaskCLIP's last row; 26 columns, some won by CLIP.
    assert bold["maskclip_6"] == [entry.literal for entry in TABLES["maskclip_6"].rows[-1].entries]
    assert len(bold["maskclip_5"]) == 26 and "57.7" in bold["maskclip_5"]
    # The one table whose marks are not simply the largest.
    assert bold["mae_clip_7"] == ["96.9", "61.8", "55.3"]
    assert any("although 61.9" in note for note in TABLES["mae_clip_7"].notes)


def test_marks_and_misprints_are_footnotes() -> None:
    assert "M3AE*: M3AE 50% trained." in TABLES["mae_clip_5"].notes
    assert "M3AE: M3AE 50% trained." in TABLES["mae_clip_7"].notes
    assert TABLES["mae_clip_14"].notes == ()
    assert "MAE-CLIP_{MAX} CCxM, dSprites/Ori: printed as 956, read as 95.6." in TABLES["mae_clip_11"].notes
    text = render_markdown(TABLES["mae_clip_11"])
    assert "| 956 |" in text and "| 100 |" in text
    assert render_markdown(TABLES["mae_clip_13"]).count("masking=") == 0


def test_csv_has_the_values_of_the_reference() -> None:
    for paper in PAPERS:
        found: Counter[float] = Counter()
        dashes = 0
        for table in printed_tables(paper):
            for line in csv.DictReader(io.StringIO(render_csv(table))):
                dashes += not line["mean"]
                found.update(float(line[key]) for key in ("mean", "beside") if line.get(key))
        values = [value.value for value in printed_values(paper)]
        assert found == Counter(value for value in values if value is not None)
        assert dashes == values.count(None)


def test_each_csv_line_is_its_value() -> None:
    for paper in PAPERS:
        for number, declared in declared_tables(paper).tables.items():
            places = place_values(paper, number, declared)
            lines = list(csv.DictReader(io.StringIO(render_csv(TABLES[f"{paper}_{number}"]))))
            expected = [places[place][0].value for place in sorted(places)]
            assert [float(line["mean"]) if line["mean"] else None for line in lines] == expected


def test_averages_recomputed() -> None:
    found = {(average.value.table, average.label): average for average in averages("mae_clip")}
    clip = found["2", "CLIP"]
    assert clip.printed == 61.8 and clip.recomputed == pytest.approx(61.8353, abs=1e-4) and len(clip.parts) == 17
    assert clip.groups["VTAB/natural"] == pytest.approx((84.2 + 62.8 + 57.7 + 81.6 + 69.7 + 52.5) / 6)
    semseg = found["13", "MAE-CLIP_{MAX}, similarity"]
    assert semseg.recomputed == pytest.approx((17.8 + 11.1 + 36.9) / 3)
    everything = [*averages("mae_clip"), *averages("maskclip")]
    assert len(everything) == 34 and all(average.explained for average in everything)
    assert [(a.value.paper, a.value.table, a.label) for a in everything if not a.agrees] == [
        ("mae_clip", "5", "CLIP_{GAP}"),
        ("mae_clip", "11", "CLIP_{GAP}"),
        ("mae_clip", "13", "MAE-CLIP_{MAX}, similarity"),
        ("mae_clip", "14", "CLIP_{GAP}"),
        ("maskclip", "5", "CLIP [41]"),
    ]


def test_the_misprint_is_found_by_its_average() -> None:
    average = next(a for a in averages("mae_clip") if a.label == "MAE-CLIP_{MAX} CCxM")
    assert average.agrees
    parts = tuple(956.0 if part == 95.6 else part for part in average.parts)
    assert not dataclasses.replace(average, parts=parts).explained


def test_numbers_in_several_tables_agree() -> None:
    values = printed_values("mae_clip")
    assert repeats(values).differing == () and repeats(values).agreeing == 120
    # CLIP's zero-shot 29.7 stands in Tables 1, 4 and 9.
    changed = [dataclasses.replace(v, value=29.8) if v.table == "9" and v.value == 29.7 else v for v in values]
    assert len(repeats(changed).differing) == 1
    table = averages_table("mae_clip")
    assert table and any("120 numbers stand in several tables and agree, all of them." in note for note in table.notes)


def declared(**changes: object) -> Table:
    table = dataclasses.replace(declared_tables("mae_clip").tables["4"], **changes)  # type: ignore[arg-type]
    return printed_table("mae_clip", "4", table, place_values("mae_clip", "4", table))


def test_declarations_are_checked() -> None:
    table = declared_tables("mae_clip").tables["4"]
    row, column = table.rows[0], table.columns[0]
    for changes, message in (
        ({"rows": (dataclasses.replace(row, method="CLAP"),)}, "unknown method 'CLAP'; did you mean 'CLIP'"),
        (
            {"columns": (dataclasses.replace(column, task="ImageNet2"),)},
            "unknown task 'ImageNet2'; did you mean 'Image",
        ),
        ({"columns": (dataclasses.replace(column, protocol=""),)}, "stands for 2 printed values"),
        ({"rows": (dataclasses.replace(row, label=("CLIP",)),)}, "1 labels for 2 heads"),
        ({"columns": (dataclasses.replace(column, digits=0),), "bold": {}}, "0 digits do not show 29.7"),
        ({"bold": {"ImageNet / ZX": ("CLIP, MAP",)}}, "unknown column 'ImageNet / ZX'"),
        ({"bold": {"ImageNet / ZS": ("CLIP",)}}, "unknown row 'CLIP'"),
    ):
        with pytest.raises(ConfigError, match=message):
            declared(**{"bold": {}, **changes})


@pytest.mark.parametrize("paper", PAPERS)
def test_the_same_bytes_again(paper: str, tmp_path: Path) -> None:
    first, again = publish(paper, tmp_path / "a"), publish(paper, tmp_path / "b")
    assert len(first.paths) == len(set(first.paths)) == len(again.paths)
    for path, other in zip(first.paths, again.paths, strict=True):
        assert path.read_bytes() == other.read_bytes()


def test_latex_of_every_table_compiles(tmp_path: Path) -> None:
    for paper in PAPERS:
        publish(paper, tmp_path / paper, ["tex"])
    inputs = "".join(f"\\input{{{path}}}\\clearpage\n" for path in sorted(tmp_path.glob("*/tables/*.tex")))
    assert inputs.count("input") == len(TABLES) + 2
    packages = "\\usepackage{booktabs,graphicx}\\usepackage[margin=1in]{geometry}"
    (tmp_path / "all.tex").write_text(
        f"\\documentclass{{article}}{packages}\\begin{{document}}\n{inputs}\\end{{document}}"
    )
    command = [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["report", "mae_clip", "--reference", "--out", str(out), "--json"], standalone=False) == 0
    written = [Path(path) for path in json.loads(capsys.readouterr().out)["paths"]]
    assert {path.name for path in written} > {f"mae_clip_4.{suffix}" for suffix in ("md", "tex", "csv", "html")}
    assert "<script" not in (out / "index.html").read_text(encoding="utf-8")
    words = ["report", "maskclip", "--reference", "--out", str(out), "--format", "csv"]
    assert main(words, standalone=False) == 0
    assert "AP^b" in capsys.readouterr().out
    assert main(["report", "maskclipp", "--reference"], standalone=False) == 2
    assert "did you mean 'maskclip'" in capsys.readouterr().err
    assert main(["report", "maskclip", "seeds=[0]", "--reference"], standalone=False) == 2


def test_no_room_for_a_report(tmp_path: Path) -> None:
    """One line that names the file."""
    program = (
        "import resource, sys\n"
        "from ablative.study.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "main(['report', 'mae_clip', '--reference', '--format', 'md', '--out', sys.argv[1]])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(rf"ablate: {tmp_path}/\S+\.md: File too large\n", done.stderr), done.stderr
    assert not list(tmp_path.rglob(".*")), "the half-written file is gone"
