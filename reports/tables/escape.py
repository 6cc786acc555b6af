"""A table's text in LaTeX, Markdown, HTML and the terminal: all escaped, `_{…}` and `^{…}` lowered and raised."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from html import escape

from markupsafe import Markup
from markupsafe import escape as escape_html

from ablative.study.spec.labels import Label

LATEX_SIGNS = str.maketrans(
    {"±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$"}
    | {"†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\|$", "◇": r"$\diamond$", "⋆": r"$\star$"}
)
"""Signs of a number, which hold nothing else to escape."""

_GREEK = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi o pi rho varsigma sigma tau upsilon "
    "varphi chi psi omega"
)
_GREEK_CAPITALS = {
    "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon",
    "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_MATH = (
    {chr(ord("α") + i): name for i, name in enumerate(_GREEK.split())}
    | _GREEK_CAPITALS
    | {"ϵ": "epsilon", "ϕ": "phi", "ϑ": "vartheta", "µ": "mu", "∂": "partial", "∇": "nabla", "ℓ": "ell"}
    | {"→": "to", "←": "leftarrow", "↔": "leftrightarrow", "↑": "uparrow", "↓": "downarrow", "⇒": "Rightarrow"}
    | {"≥": "geq", "≤": "leq", "≈": "approx", "≠": "neq", "≪": "ll", "≫": "gg", "∼": "sim", "∝": "propto"}
    | {"∈": "in", "∅": "emptyset", "∞": "infty", "·": "cdot", "•": "bullet", "●": "bullet", "○": "circ", "∘": "circ"}
    | {"✓": "checkmark", "✔": "checkmark", "✗": "times", "✘": "times", "✕": "times", "✖": "times", "⊕": "oplus"}
    | {"⊗": "otimes", "★": "star", "☆": "star", "△": "triangle", "▲": "triangle", "□": "square", "■": "square"}
    | {"√": "surd", "∑": "sum", "∏": "prod", "∪": "cup", "∩": "cap", "⊥": "perp", "′": "prime", "÷": "div"}
    | {"⇐": "Leftarrow", "⇔": "Leftrightarrow", "↦": "mapsto", "↗": "nearrow", "↘": "searrow", "∓": "mp", "∗": "ast"}
    | {"≡": "equiv", "≃": "simeq", "≅": "cong", "≲": "lesssim", "≳": "gtrsim", "∫": "int", "⊙": "odot", "⊖": "ominus"}
    | {"∧": "land", "∨": "lor", "¬": "neg", "∀": "forall", "∃": "exists", "∉": "notin", "⊂": "subset", "⊃": "supset"}
    | {"⊆": "subseteq", "⊇": "supseteq", "⟨": "langle", "⟩": "rangle", "⌊": "lfloor", "⌋": "rfloor", "∥": "parallel"}
    | {"⌈": "lceil", "⌉": "rceil", "◆": "blacklozenge", "▷": "triangleright", "◁": "triangleleft", "▽": "triangledown"}
    | {letter: f"mathbb{{{name}}}" for letter, name in zip("ℝℕℤℚℂ𝔼ℙ", "RNZQCEP", strict=True)}
    | {"ħ": "hbar", "ℏ": "hbar", "Ω": "Omega"}
)
"""Character → the command of LaTeX's mathematics that draws it."""
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n", strict=True))

LATEX_SPECIAL = LATEX_SIGNS | str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\char34{}",
        "\n": " ",
        "\N{NO-BREAK SPACE}": "~",
        "\N{NON-BREAKING HYPHEN}": "-",
        "—": "---",
        "…": r"\ldots{}",
        "°": r"$^\circ$",
        "½": r"$\frac{1}{2}$",
        "“": "``",
        "”": "''",
        "„": ",,",
        "‘": "`",
        "’": "'",
        **{character: f"${chr(92)}{name}$" for character, name in _MATH.items() if name != "o"},
        "ο": "o",
        **{character: f"$^{{{text}}}$" for character, text in _RAISED.items()},
        **{character: f"$_{{{text}}}$" for character, text in _LOWERED.items()},
        **{character: "\\" + character for character in "&%$#_{}"},
    }
)
PRINTED = {*map(chr, range(0xA0, 0x180)), *"‰€™‚‹›―⁄№℃"} - {*"ĦħĸĿŀŉŦŧſ"}
"""Letters with accents, and signs, that pdflatex has with `inputenc` and `fontenc`."""

SCRIPT = re.compile(r"([_^])\{([^{}]*)\}")


def latex(text: str) -> str:
    r"""Text as LaTeX prints it, every special character escaped; a label may have LaTeX given.

    >>> latex("CLIP_{GAP} 5 %")
    'CLIP\\textsubscript{GAP} 5 \\%'
    """
    if isinstance(text, Label) and (text.latex or text.parts):
        return text.latex or "".join(map(latex, text.parts))
    scripts = {"_": r"\textsubscript{{{}}}", "^": r"\textsuperscript{{{}}}"}
    # A letter and its accent, which a file's author may have typed as two characters, are one that pdflatex has.
    return _scripted(unicodedata.normalize("NFC", text), lambda part: part.translate(LATEX_SPECIAL), scripts)


def unknown_to_pdflatex(text: str) -> list[str]:
    """Characters of a LaTeX text that pdflatex cannot print."""
    if text.isascii():
        return []  # the usual case, megabytes of numbers
    return sorted({letter for letter in set(text) if ord(letter) > 127 and letter not in PRINTED})


def where_unknown(text: str) -> dict[str, list[str]]:
    r"""Each name in a LaTeX text that pdflatex cannot print, and the characters that it lacks for it.

    >>> where_unknown("method & 損失 1 & a 損 \\\\")
    {'損失 1': ['失', '損'], 'a 損': ['損']}
    """
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    names = (name.strip(" {}~\\") for line in lines for name in re.split(r"(?<!\\)&|\\\\|\\caption\{", line))
    return {name: found for name in names if (found := unknown_to_pdflatex(name))}


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
