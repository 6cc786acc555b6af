"""One `ablate` command in this process, and what is wrong with how it ended."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase

PACKAGE = os.environ.get("ABLATE_FUZZ_PACKAGE", "ablative")
"""Package that holds `study`: empty for a version before they had one."""
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""All tests of this folder together; 0: as few as fit into a run of all tests, always the same ones."""
COLLECT = os.environ.get("FUZZ_COLLECT", "")
"""File for every fault, one JSON line each, instead of an end at the first one. A file of this name with `.count` added
has a line for every example: how many there were is known of a run that was cut off, too."""

faults: Counter[str] = Counter()
"""Kind of fault → how often, of those collected."""


def settings(share: float, bounded: int) -> hypothesis.settings:
    """How many examples a test takes.

    Args:
        share: of `EXAMPLES`.
        bounded: examples without that.
    """
    return hypothesis.settings(
        max_examples=max(1, round(share * EXAMPLES)) if EXAMPLES else bounded,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate] if COLLECT else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def check(words: Sequence[str], made: str, environment: Mapping[str, str] | None = None) -> None:
    """Run the command; fail unless it gives a result, or one line that names what is wrong.

    Args:
        words: the command.
        made: what was changed, for the message.
        environment: variables on top of those there are.
    """
    kind, text = fault(words, environment or {})
    if COLLECT:
        with Path(COLLECT + ".count").open("a") as file:
            file.write(os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].rpartition("::")[2] + "\n")
    if not kind:
        return
    if not COLLECT:
        raise AssertionError(f"ablate {' '.join(words)}\n{kind}\n{text}\n== what was changed\n{made}")
    faults[kind] += 1
    with Path(COLLECT).open("a") as file:
        file.write(json.dumps({"kind": kind, "words": list(words), "made": made[-4000:], "text": text[-4000:]}) + "\n")


def fault(words: Sequence[str], environment: Mapping[str, str]) -> tuple[str, str]:
    """What is wrong with the command's end, in a few words, and what it printed; empty where nothing is."""
    main = importlib.import_module(".".join(filter(None, [PACKAGE, "study.cli"]))).main
    printed, complained = io.StringIO(), io.StringIO()
    with _changed(environment), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
            try:
                code = main(list(words), standalone=False)
            except SystemExit as stop:
                code = stop.code
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                return _place(error), "".join(traceback.format_exception(error))
    text = printed.getvalue() + complained.getvalue()
    # What a command prints may quote the traceback of a failed task.
    if any(line.startswith("Traceback (most recent call last)") for line in complained.getvalue().splitlines()):
        return f"traceback {text.strip().splitlines()[-1][:80]}", text
    if code not in (0, 1, 2, None):
        return f"exit code {code}", text
    lines = complained.getvalue().strip().splitlines()
    if code == 2 and not any(line.startswith(("ablate: ", "Error: ")) for line in lines):
        return "exit code 2 without a line that says why", text
    if code == 2 and any(line.strip() == "ablate:" for line in lines):
        return "an empty message", text
    return "", text


@contextlib.contextmanager
def _changed(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _place(error: BaseException) -> str:
    """Type of an exception, and the last line of ours that it went through."""
    root = str(Path(importlib.import_module(".".join(filter(None, [PACKAGE, "study"]))).__file__ or "").parents[1])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(root)]
    ours = [frame for frame in frames if ".venv" not in frame.filename and "/tests/" not in frame.filename]
    where = f"{ours[-1].filename.removeprefix(root + '/')}:{ours[-1].lineno} {ours[-1].name}" if ours else "?"
    return f"{type(error).__name__} at {where}"
