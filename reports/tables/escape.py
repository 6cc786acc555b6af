"""A table's text in LaTeX, Markdown, HTML and the terminal: all escaped, `_{…}` and `^{…}` lowered and raised."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from markupsafe import Markup
from markupsafe import escape as escape_html

from ablative.study.spec.labels import Label

LATEX_SIGNS = str.maketrans(
    {"±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$"}
    | {"†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\|$"}
)
"""Signs of a number, which hold nothing else to escape."""

LATEX_SPECIAL = LATEX_SIGNS | str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\char34{}",
        "Δ": r"$\Delta$",
        "→": r"$\to$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "\n": " ",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
)

SCRIPT = re.compile(r"([_^])\{([^{}]*)\}")


def latex(text: str) -> str:
    r"""Text as LaTeX prints it, every special character escaped; a label may have LaTeX given.

    >>> latex("CLIP_{GAP} 5 %")
    'CLIP\\textsubscript{GAP} 5 \\%'
    """
    if isinstance(text, Label) and (text.latex or text.parts):
        return text.latex or "".join(map(latex, text.parts))
    scripts = {"_": r"\textsubscript{{{}}}", "^": r"\textsuperscript{{{}}}"}
    return _scripted(text, lambda part: part.translate(LATEX_SPECIAL), scripts)


def html(text: str) -> Markup:
    """Text as HTML shows it, between tags.

    >>> html("CLIP_{GAP} < 1")
    Markup('CLIP<sub>GAP</sub> &lt; 1')
    """
    return Markup(_scripted(text, _html, {"_": "<sub>{}</sub>", "^": "<sup>{}</sup>"}))


def markdown(text: str) -> str:
    """Text without Markdown's or HTML's meaning in a table cell."""
    return _scripted(text, _markdown, {"_": "<sub>{}</sub>", "^": "<sup>{}</sup>"})


def bare(text: str) -> str:
    """Text for programs and terminals, where nothing can be lowered.

    >>> bare("CLIP_{GAP}")
    'CLIP_GAP'
    """
    return SCRIPT.sub(r"\1\2", text)


def comment(text: str) -> str:
    """Text on one line of a LaTeX comment or in a label, where nothing can be escaped."""
    return "".join(character if character.isalnum() or character in "-_ ." else "-" for character in text)


def _scripted(text: str, escaped: Callable[[str], str], scripts: dict[str, str]) -> str:
    """`text` with its parts escaped and its scripts in their frames."""
    done, position = "", 0
    for match in SCRIPT.finditer(text):
        done += escaped(text[position : match.start()]) + scripts[match[1]].format(escaped(match[2]))
        position = match.end()
    return done + escaped(text[position:])


def _html(text: str) -> str:
    return str(escape_html(text))


def _markdown(text: str) -> str:
    escaped = escape(text, quote=False).replace("\n", " ").replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("*", "\\*").replace("_", "\\_").replace("`", "\\`")
