"""Metrics that a short run has shown: numbers in its output, and in files that it has written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.study.installed_trainers import accepted_name
from ablative.trainer.program.metrics.event_files import EventFiles
from ablative.trainer.program.metrics.records import Csv, Document, JsonLines, Origin, field_of, keys_of
from ablative.trainer.program.metrics.series import number_of
from ablative.trainer.program.proposal.short_run import Ran

STEP_NAMES = ("step", "global_step", "iter", "iteration", "it", "epoch", "update", "batch")
_TIMES = re.compile(
    r"(.*[_ /])?(time|dt|elapsed|eta|lr|learning_rate|ms|sec|secs|seconds|mfu|mem|memory|fps|speed|samples?|timestamp|"
    r"throughput|tokens?|size|total|seed|of|_\w+)"
)
_LOWER = re.compile(r"loss|err|perplexity|ppl|mse|rmse|\bmae\b|nll|wer|cer|\bfid\b|bpc|bpb", re.IGNORECASE)
_HIGHER = re.compile(
    r"acc|f1|auc|top|prec|recall|bleu|score|reward|return|\br2\b|\bmap\b|iou|dice|psnr|ssim", re.IGNORECASE
)
_NO_RESULT = re.compile(r"^\s*(File |Traceback)|\w+Warning\b")
"""Lines that say where something is, and no result."""
_NUMBER = re.compile(r"(?<![\w@.])[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?|\b(?:nan|inf)\b")
_LABEL = re.compile(r"([A-Za-z][\w@/.-]*(?: [A-Za-z][\w@/.-]*)?)(['\"]?\s*[:=]?\s*[\[(]?)$")
_VALUES = (r"\S+", r"[-+.\deE]+")
"""How a number is found in a line; the second where something else follows it without a space, as in `3/10`."""
MOST = 8
MOST_RECORDS = 200


@dataclass(frozen=True)
class Proposed:
    """One metric, and where its values are."""

    name: str
    source: Mapping[str, str]
    """What the study file says of it: `{"jsonl": "log.jsonl", "key": "loss"}`."""
    seen: str
    """How often, and the last value."""

    @property
    def better(self) -> str:
        """`lower`, `higher`, or empty: the name does not say."""
        if _LOWER.search(self.name):
            return "lower"
        return "higher" if _HIGHER.search(self.name) else ""


def found_metrics(ran: Ran | None, reports: Sequence[str] = (), configuration: Path | None = None) -> list[Proposed]:
    """The metrics of a short run, those that the program reports itself first; names are different.

    Args:
        ran: the run; None: there was none.
        reports: names that the program's source reports.
        configuration: file of the run whose numbers are no metrics.
    """
    found: dict[str, Proposed] = {}
    # The output of a program that failed ends with numbers of its traceback.
    lines = ran.lines if ran and (ran.cut or not ran.status) else ()
    seen = (*_reported(ran), *_in_files(ran.out, configuration), *_in_lines(lines)) if ran else ()
    for one in (*seen, *(Proposed(accepted_name(name), {}, "named in the source") for name in reports)):
        found.setdefault(one.name, one)
    clear = [one for one in found.values() if one.better]
    return [*clear, *(one for one in found.values() if not one.better)][:MOST]


def _reported(ran: Ran) -> Iterator[Proposed]:
    origin = JsonLines(ran.reported.parent, ran.reported.name)
    for key, values, _ in _numbers(origin):
        yield Proposed(accepted_name(key), {}, _seen(values))


def _in_files(out: Path, configuration: Path | None) -> Iterator[Proposed]:
    for path in sorted(out.rglob("*"))[:MOST_RECORDS]:
        name = str(path.relative_to(out))
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if hidden or path == configuration or not path.is_file():
            continue
        kind, origin = _origin(out, path, name)
        if origin is None:
            continue
        for key, values, step in _numbers(origin):
            source = {kind: name, "key": key} if kind != "tensorboard" else {kind: str(Path(name).parent), "key": key}
            if step and step != "step" and kind != "tensorboard":
                source["step"] = step
            yield Proposed(accepted_name(key), source, _seen(values))


def _origin(out: Path, path: Path, name: str) -> tuple[str, Origin | None]:
    if path.suffix in (".jsonl", ".ndjson"):
        return "jsonl", JsonLines(out, name)
    if path.suffix == ".csv":
        return "csv", Csv(out, name)
    if path.suffix == ".json" and not re.search(r"config|param|arg|ckpt|checkpoint|state_dict|vocab", path.name):
        return "json", Document(out, name, "step")
    if "tfevents" in path.name:
        return "tensorboard", EventFiles(out, str(Path(name).parent))
    return "", None


def _numbers(origin: Origin) -> Iterator[tuple[str, list[float], str]]:
    """Key, values, and key of the step, of the numbers in records."""
    found: dict[str, list[float]] = {}
    step = ""
    for index, record in enumerate(origin.read(True)):
        if index >= MOST_RECORDS:
            break
        for key in keys_of(record.fields):
            value = number_of(field_of(record.fields, key))
            last = re.split("[./]", key)[-1].lower()
            if last in STEP_NAMES:
                step = step if step and last != "step" else key
            elif value is not None and not _TIMES.fullmatch(last):
                found.setdefault(key, []).append(value)
    for key, values in found.items():
        yield key, values, step


def _in_lines(lines: Sequence[str]) -> Iterator[Proposed]:
    """Numbers with a name before them, in lines of one form that is repeated, or is the last with a number."""
    forms: dict[str, list[str]] = {}
    for line in lines:
        if _NUMBER.search(line) and not _NO_RESULT.search(line):
            forms.setdefault(_NUMBER.sub("#", line), []).append(line)
    usual = sorted(forms.values(), key=lambda own: -len(own))[:4]
    last = [own for own in list(forms.values())[-2:] if own not in usual]
    for own in [*usual, *last]:
        yield from _in_line(own[-1], own, lines)


def _in_line(line: str, own: Sequence[str], lines: Sequence[str]) -> Iterator[Proposed]:
    labelled = list(_labelled(line))
    step = next((pattern for name, pattern in labelled if name.lower() in STEP_NAMES), "")
    for name, pattern in labelled:
        other = name.lower() in STEP_NAMES or name.endswith(".py")
        if other or _TIMES.fullmatch(name.lower().replace(" ", "_")):
            continue
        for number in _VALUES:
            value = f"{pattern}(?P<value>{number})"
            whole = f"{step}(?P<step>\\d+).*?{value}" if step else value
            if not any(re.search(whole, text) for text in own):
                whole = f"(?=.*{step}(?P<step>\\d+)){value}"
            matches = [match["value"] for text in lines if (match := re.search(whole, text))]
            if numbers := [read for text in matches if (read := number_of(text)) is not None]:
                found = Proposed(accepted_name(name.replace(" ", "_")), {"stdout": whole}, _seen(numbers))
                # A program prints many numbers that are settings; what has a step is none.
                yield from [found] if step or found.better else []
                break


def _labelled(line: str) -> Iterator[tuple[str, str]]:
    """Name of each number in a line, and a regular expression for what is before the number."""
    end = 0
    for match in _NUMBER.finditer(line):
        before = line[end : match.start()]
        end = match.end()
        if label := _LABEL.search(before):
            name, between = label[1], label[2]
            if name.split()[-1].lower() in STEP_NAMES:
                name = name.split()[-1]
            space = r"\s*" if between.strip() else r"\s+"
            pattern = re.escape(name).replace(r"\ ", r"\s+") + (re.escape(between.strip()) + space if between else "")
            yield name, rf"\b{pattern}"


def _seen(values: Sequence[float]) -> str:
    times = "once" if len(values) == 1 else f"{len(values)} times"
    return f"seen {times}, last {values[-1]:.4g}"
