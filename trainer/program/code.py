"""A study's `code`: where commands start, and what of the user's repository is copied for the jobs."""

from __future__ import annotations

from pathlib import Path

from ablative.study.core.checkouts import root
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.syntax.factors import brief
from ablative.study.syntax.source_keys import names
from ablative.study.syntax.words import Tree
from ablative.study.trainers import Code, Request
from ablative.trainer.program.keys import CodeKeys

KEYS = names(CodeKeys)


def code(data: object, python: str, request: Request) -> Code:
    """The user's code of a study.

    Args:
        data: the study's `code`: a folder, or keys of it (`{folder: .., source: ["*.py"], link: [data], largest: 50}`).
        python: the study's interpreter.
        request: of the study.

    Raises:
        ConfigError: there is no such folder, or a key is wrong.
    """
    where = f"{request.where}: code"
    if data is None or isinstance(data, str):
        data = {"folder": data or ""}
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a folder, or keys such as folder and source, found {brief(data)}")
    for key in data:
        if key not in KEYS:
            raise ConfigError(unknown("key", str(key), KEYS, where))
    given: Tree = {}
    if "source" in data:
        given["source"] = _patterns(data["source"], f"{where}.source")
    if "link" in data:
        given["data"] = _patterns(data["link"], f"{where}.link")
    if "largest" in data:
        largest = data["largest"]
        if not isinstance(largest, int | float) or isinstance(largest, bool) or largest <= 0:
            raise ConfigError(f"{where}.largest: expected a number of MiB, found {brief(largest)}")
        given["largest_mib"] = float(largest)
    return Code(_folder(str(data.get("folder") or ""), request, where), python, **given)


def _folder(named: str, request: Request, where: str) -> Path:
    """What the study names, from its file's folder on; else the root of the repository; else the file's folder."""
    if named:
        folder = (request.folder / Path(named).expanduser()).resolve()
        if not folder.is_dir():
            raise ConfigError(f"{where}: no folder {folder}")
        return folder
    return root(request.folder) or request.folder


def _patterns(value: object, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{where}: expected patterns of files, found {brief(value)}")
    return tuple(items)
