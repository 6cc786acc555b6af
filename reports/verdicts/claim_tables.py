"""Claims with their verdicts as Markdown, LaTeX, CSV and HTML, the same words everywhere."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ablative.reports.stats.exact import SAME
from ablative.reports.tables.escape import markdown
from ablative.reports.tables.html_templates import fill
from ablative.reports.tables.tables import number
from ablative.reports.verdicts import claim_latex
from ablative.reports.verdicts.claim_runs import Judged, claim_json
from ablative.reports.verdicts.claims import VERDICTS, ClaimResult, Part
from ablative.study.spec.labels import joined
from ablative.study.syntax.text_width import LAYOUTS, ONE_COLUMN

SYMBOLS = {"supported": "✓", "contradicted": "✕", "equivalent": "≈", "undecided": "?"}
"""Shapes, so that no meaning rests on colour alone."""

HEADS = ("claim", "statement", "verdict", "p (Holm)", "effect", "interval", "seeds × tasks", "tasks that agree")
DIGITS = 2
NOTES = (
    "Interval: 95 %, or 90 % where the verdict is about the margin (two one-sided tests at 5 %).",
    "Supported: the statement holds at 5 %. Contradicted: its contrary does. Equivalent: a difference is claimed, and "
    "it is certain to lie within the margin. Undecided: none of these; the last column still "
    "says whether the estimates agree.",
    "Each verdict is the claim's by itself. p (Holm): of the verdict, adjusted for all claims of the study; above 0.05 "
    "the verdict does not hold among all of them.",
    "Spread: each arm's variance over seeds is drawn towards that of all arms of the claim's grid; intervals cover "
    "95 % on average over the claims, less for an arm much noisier than the others.",
)


EXACT_NOTE = (
    f"{SAME[0].upper()}{SAME[1:]}: no seed changes the effect, and the value itself decides, without interval and p."
)


def notes(claims: Sequence[Judged]) -> tuple[str, ...]:
    """How the claims' numbers are to be read."""
    units = dict.fromkeys(judged.unit for judged in claims if judged.unit)
    inside = f" in {' or '.join(units)}," if units else ""
    number = any(part.target for judged in claims for part in judged.result.parts)
    against = "; of a claim against a number, the left side itself" * number
    effect = f"Effect: left side less right side,{inside} averaged over the tasks{against}"
    first = f"{effect}; of a claim that must hold on every task, the least favourable one."
    alone = [judged.result.name for judged in claims if any(part.effect.alone for part in judged.result.parts)]
    own = f"Two arms alone, with their own error, which no other arm's seeds sharpen: {', '.join(alone)}."
    exact = any(part.effect.exact for judged in claims for part in judged.result.parts)
    return (first, *NOTES, *([own] if alone else ()), *([EXACT_NOTE] if exact else ()))


def holm_text(judged: Judged) -> str:
    """`0.021`: p of the verdict among all claims of the study; a dash for an undecided and an exact one."""
    if judged.holm is None:
        return "–"
    return "< 0.001" if judged.holm < 0.001 else f"{judged.holm:.2g}"


@dataclass(frozen=True)
class Line:
    """One comparison of a claim in words."""

    statement: str
    effect: str
    interval: str
    size: str
    agree: str


def lines(judged: Judged) -> tuple[Line, ...]:
    """One line for each comparison of a claim."""
    groups: dict[str, list[Part]] = {}
    for part in judged.result.parts:
        groups.setdefault(part.text, []).append(part)
    return tuple(_line(text, parts, judged.texts) for text, parts in groups.items())


def _line(statement: str, parts: Sequence[Part], texts: Mapping[str, str]) -> Line:
    text = texts.get(statement, statement)
    known = [part for part in parts if part.agrees is not None]
    tasks = sum(part.effect.n_tasks for part in parts)
    size = f"{min(part.effect.n_seeds for part in parts)} × {tasks}"
    if not known:
        return Line(text, "–", "–", size, "–")
    worst = min(known, key=lambda part: part.reserve)
    effect = worst.effect
    values = [value for value in (effect.estimate, effect.low, effect.high) if value is not None]
    digits = _digits(values)
    shown, *ends = (number(value, digits, sign=True).replace("-", "−") for value in values)
    level = "" if effect.level == 0.95 else f" ({100 * effect.level:.0f} %)"
    interval = SAME if effect.exact else f"[{', '.join(ends)}]{level}" if ends else "none"
    agree = f"{sum(part.favourable for part in parts)} of {tasks}"
    whole = joined(" on ", [text, texts.get(worst.task, worst.task)]) if worst.task else text
    return Line(whole, shown, interval, size, agree)


def _digits(values: Sequence[float]) -> int:
    """Decimals of an effect and its interval: `DIGITS`, or as many as leave two digits of the largest one.

    >>> _digits([1.2, -0.3, 2.7]), _digits([0.0014, 0.0011, 0.0017])
    (2, 4)
    """
    largest = max(map(abs, values))
    return DIGITS if largest == 0 else max(DIGITS, 1 - math.floor(math.log10(largest)))


def verdict_text(result: ClaimResult) -> str:
    """`undecided, agrees`: the verdict, and where there is none, what the estimates say."""
    if result.verdict != "undecided":
        return result.verdict
    return {None: "undecided, no result", True: "undecided, agrees", False: "undecided, disagrees"}[result.agrees]


def counts(claims: Sequence[Judged]) -> dict[str, int]:
    """Verdict -> number of claims, without zeros."""
    found = [judged.result.verdict for judged in claims]
    return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}


def summary(claims: Sequence[Judged]) -> str:
    """`3 supported, 1 contradicted, 5 undecided (4 agree)`."""
    agreeing = sum(j.result.verdict == "undecided" and bool(j.result.agrees) for j in claims)
    words = {verdict: f"{count} {verdict}" for verdict, count in counts(claims).items()}
    if agreeing:
        words["undecided"] += f" ({agreeing} agree)"
    return ", ".join(words.values())


def render_claims_markdown(claims: Sequence[Judged], title: str) -> str:
    rows = ["| " + " | ".join(HEADS) + " |", "|" + " --- |" * len(HEADS)]
    for judged in claims:
        for i, line in enumerate(lines(judged)):
            first = [markdown(_sentence(judged)), f"**{verdict_text(judged.result)}**", holm_text(judged)]
            sentence, verdict, holm = first if i == 0 else ["", "", ""]
            cells = [sentence, markdown(line.statement), verdict, markdown(holm), markdown(line.effect), line.interval]
            rows.append("| " + " | ".join([*cells, line.size, line.agree]) + " |")
    remedies = [f"- {markdown(j.text)} {markdown(_remedy(j))}" for j in claims if j.remedy.text]
    wanted = ["", "What would decide the rest:", "", *remedies] if remedies else []
    text = [f"### {markdown(title)}", "", *rows, *wanted, "", *(f"{note}  " for note in notes(claims))]
    return "\n".join(text).rstrip() + "\n"


def render_claims_latex(
    claims: Sequence[Judged], title: str, study: str = "", widths: Sequence[float] = LAYOUTS[ONE_COLUMN]
) -> str:
    """The claims in LaTeX, for a paper whose text has these widths (in points)."""
    return claim_latex.render_claims_latex(
        title,
        study,
        widths,
        [
            claim_latex.Claim(
                _sentence(judged),
                verdict_text(judged.result),
                "" if judged.holm is None else f"p (Holm) {holm_text(judged)}",
                [(line.statement, line.effect, line.interval) for line in lines(judged)],
            )
            for judged in claims
        ],
        notes(claims),
    )


def render_claims_csv(claims: Sequence[Judged]) -> str:
    """One line for each comparison, on each task where it must hold on every one, unrounded: for programs."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    heads = ["claim", "text", "source", "verdict", "comparison", "task", "effect", "target", "low", "high", "level"]
    writer.writerow([*heads, "p", "p_holm", "seeds", "tasks", "favourable", "agrees", "estimand", "margin", "method"])
    for judged in claims:
        result, config = judged.result, judged.result.config
        for part in result.parts:
            effect = part.effect
            estimate = None if part.agrees is None else effect.estimate
            writer.writerow(
                [result.name, result.text, config.source, part.verdict, part.text, part.task, estimate, part.target,
                 effect.low, effect.high, effect.level, effect.p, judged.holm, effect.n_seeds, effect.n_tasks,
                 part.favourable, part.agrees, config.estimand, config.margin, effect.method]
            )  # fmt: skip
    return output.getvalue()


def render_claims_json(claims: Sequence[Judged]) -> str:
    return json.dumps([claim_json(judged) for judged in claims], ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def render_claims_html(claims: Sequence[Judged], title: str) -> Markup:
    """A semantic `<table>`; what would decide a claim folds out below it."""
    own = [(judged, lines(judged), verdict_text(judged.result), holm_text(judged)) for judged in claims]
    return fill(
        "claims.html",
        title=title,
        summary=summary(claims),
        heads=HEADS,
        claims=own,
        symbols=SYMBOLS,
        notes=notes(claims),
    )


def render_claims_text(claims: Sequence[Judged]) -> str:
    """Claims as text for the terminal: a line for each, its comparisons below it."""
    rows: list[str] = []
    for judged in claims:
        among = "" if judged.holm is None else f"  p (Holm) {holm_text(judged)}"
        rows.append(f"{verdict_text(judged.result):21} {judged.text}  [{judged.result.name}]{among}")
        rows += [
            f"{'':22}{line.statement}: {line.effect}, {'' if line.interval == SAME else 'interval '}{line.interval}"
            for line in lines(judged)
        ]
    return "\n".join([*rows, f"claims: {summary(claims)}"])


CLAIM_RENDERERS: dict[str, Callable[[Sequence[Judged], str, str, Sequence[float]], str]] = {
    "md": lambda claims, title, *_: render_claims_markdown(claims, title),
    "tex": render_claims_latex,
    "csv": lambda claims, *_: render_claims_csv(claims),
    "html": lambda claims, title, *_: render_claims_html(claims, title),
}
"""Format of `FORMATS` -> (claims, title, study, widths of the paper's text) to text."""


def _sentence(judged: Judged) -> str:
    source = judged.result.config.source
    return joined("", [judged.text, " (", source, ")"]) if source else judged.text


def _remedy(judged: Judged) -> str:
    command = f": {judged.remedy.command}" if judged.remedy.command else ""
    return f"{judged.remedy.text}{command}"
