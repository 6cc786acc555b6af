"""All tables of a report as one PDF, made by pdflatex where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ablative.reports.tables.escape import latex
from ablative.study.core.files import write_atomic

TIMEOUT_SECONDS = 300.0

HEAD = r"""\documentclass[10pt,a4paper]{article}
\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}
\usepackage[margin=18mm,landscape]{geometry}
\usepackage{booktabs,longtable,graphicx}
\pdfinfoomitdate=1 \pdfsuppressptexinfo=-1 \pdftrailerid{}
\setlength\tabcolsep{4pt}
\makeatletter \@fptop=0pt \makeatother
\pagestyle{myheadings}
"""
"""The same tables give the same bytes: no dates, no random id. Each table is at the top of a page."""


def make_pdf(title: str, sources: Sequence[Path], path: Path) -> str:
    """Write the tables of some LaTeX files into one PDF; the reason why there is none, or empty.

    Whatever keeps pdflatex from it (not installed, a character that it does not know) leaves the `.tex` files as they
    are, which a paper's own preamble may well manage.
    """
    program = shutil.which("pdflatex")
    if program is None:
        return "pdflatex is not installed (Debian: texlive-latex-recommended)"
    if not sources:
        return "there are no tables"
    bodies = (source.read_text(encoding="utf-8") for source in sources)
    begin = f"\\begin{{document}}\\markright{{{latex(title)}}}\n"
    text = HEAD + begin + "\n\\clearpage\n".join(bodies) + "\n\\end{document}\n"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tables.tex").write_text(text, encoding="utf-8")
        command = [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
        for _ in range(2 if "longtable" in text else 1):  # columns that fill pages are measured first
            try:
                done = subprocess.run(
                    command, check=False, cwd=folder, capture_output=True, timeout=TIMEOUT_SECONDS, env=_environment()
                )
            except subprocess.TimeoutExpired:
                return f"pdflatex took longer than {TIMEOUT_SECONDS:.0f} s"
            if done.returncode:
                lines = done.stdout.decode(errors="replace").splitlines()
                return f"pdflatex failed: {next((line for line in lines if line.startswith('!')), lines[-1])}"
        write_atomic(path, (Path(folder) / "tables.pdf").read_bytes())
    return ""


def _environment() -> dict[str, str]:
    """Nothing may be read or written outside of pdflatex's own folder, whatever a level is called."""
    return {**os.environ, "openin_any": "p", "openout_any": "p"}
