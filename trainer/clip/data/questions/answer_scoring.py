"""Answers to questions about images: how they are compared, and what a partly right one is worth.

The rules are those of VQA's official evaluation (Antol et al. 2015, section 3; GT-Vision-Lab/VQA `vqaEval.py`), so that
accuracies on VQAv2 are comparable. CLEVR and GQA have one answer a question, compared without changes.
"""

from __future__ import annotations

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
_ARTICLES = ("a", "an", "the")
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""


def _missing_one_apostrophe(word: str) -> list[str]:
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


_MENDED = {short: word for word in _CONTRACTIONS.split() for short in _missing_one_apostrophe(word)}
"""Contractions with an apostrophe forgotten; the official table forgets one at a time too."""
_FULL_STOP = re.compile(r"\.(?!\d)")
_THOUSANDS = re.compile(r"\d,\d")


def normalize(answer: str) -> str:
    """An answer without articles and punctuation, in lower case, numbers as digits, contractions mended.

    >>> normalize("The Two dogs.")
    '2 dogs'
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    tight = bool(_THOUSANDS.search(text))
    cleaned = text
    for mark in _PUNCTUATION:
        # As the official rule has it: a mark next to a space goes, one inside a word becomes a space.
        beside = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside or tight else " ")
    words = (_DIGITS.get(word, word) for word in _FULL_STOP.sub("", cleaned).lower().split())
    return " ".join(_MENDED.get(word, word) for word in words if word not in _ARTICLES)


def soft_accuracy(matches: int, people: int) -> float:
    """What an answer is worth that `matches` of `people` gave: min(n/3, 1), averaged over leaving each of them out.

    With ten people: 0, 0.3, 0.6, 0.9, 1, 1, …; with one, right or wrong.
    """
    assert 0 <= matches <= people
    if people == 1:
        return float(matches)
    among_them = matches * min((matches - 1) / 3, 1.0) if matches else 0.0
    return (among_them + (people - matches) * min(matches / 3, 1.0)) / people
