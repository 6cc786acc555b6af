"""Text in each format: scripts lowered and raised, everything else escaped."""

from __future__ import annotations

import doctest

from ablative.reports.tables import escape
from ablative.reports.tables.escape import bare, html, latex, markdown


def test_scripts_and_escapes() -> None:
    label = "A_{G<}*^{b}"
    assert latex(label) == r"A\textsubscript{G\textless{}}*\textsuperscript{b}"
    assert html(label) == "A<sub>G&lt;</sub>*<sup>b</sup>"
    assert markdown(label) == r"A<sub>G&lt;</sub>\*<sup>b</sup>"
    assert bare(label) == "A_G<*^b"


def test_half_a_script_is_text() -> None:
    assert html("a_{b") == "a_{b" and bare("a_b}") == "a_b}" and latex("_{") == r"\_\{"


def test_a_script_hides_no_markup() -> None:
    assert html("_{<script>}") == "<sub>&lt;script&gt;</sub>"


def test_examples() -> None:
    assert doctest.testmod(escape).failed == 0
