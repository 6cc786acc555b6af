"""Changes that make a correct file wrong, as hands, editors, disks and other programs do; drawn by hypothesis."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

Draw = Callable[[Any], Any]

SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 10**30, 0.5, -0.0, 1e-300, float("inf"), float("-inf"), float("nan")),
    *("", " ", "a", "map", "clip", "null", "é✓", "a,b", "a=b", "a/b", "../x", "x" * 300, "\x00", "\n", "1:30", "010"),
    *(
        "${nothing}",
        "${seeds}",
        "???",
        "*",
        "*/*/*",
        "[",
        "{a",
        "a > b",
        "((((a",
        "2026-01-01",
        "%s",
        "nan",
        "0x1F",
        "~",
    ),
)
NESTED: tuple[Any, ...] = (
    *(
        [],
        {},
        [[]],
        [{}],
        {"": None},
        {None: 1},
        {1: 2},
        {"a": {"b": 1}},
        [None],
        ["map", "gap"],
        ["a", ["b"]],
        {"a": []},
    ),
    *({"from": {"method": "clip"}}, {"tuned": {"search": "weights"}}, {"low": 1, "high": 0}, [0, 0], [1.5], ["a", "a"]),
)
VALUES = SCALARS + NESTED
NUMBERS = (0, -1, 10**30, 1e-300, 1e308, float("inf"), float("-inf"), float("nan"), True)
WORDS = ("", "+", "~", "++", "a", "=", "a=", "=1", "a=b=c", "[", "{", "'", '"', "\\", ",", "é", "seeds", "@", "$")


def pick(draw: Draw, options: Any) -> Any:
    return draw(st.sampled_from(list(options)))


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all nodes but the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def _branch(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def change(draw: Draw, tree: Any) -> Any:
    """The tree with one node changed: replaced, removed, renamed, moved, wrapped, or doubled."""
    tree = copy.deepcopy(tree)
    paths = list(places(tree))
    how = pick(draw, ("replace", "replace", "replace", "remove", "rename", "exchange", "wrap", "repeat", "cut"))
    if not paths:
        return pick(draw, VALUES)
    path = pick(draw, paths)
    branch, key = _branch(tree, path), path[-1]
    if how == "remove":
        del branch[key]
    elif how == "rename" and isinstance(branch, dict):
        branch[pick(draw, (*[name for name in SCALARS if name == name], f"{key}s", f"{key}.x", str(key)[:-1]))] = (
            branch.pop(key)
        )
    elif how == "exchange":
        other = pick(draw, paths)
        branch[key] = copy.deepcopy(_branch(tree, other)[other[-1]])
    elif how == "wrap":
        branch[key] = pick(draw, ([branch[key]], {"a": branch[key]}, {key: branch[key]}, [branch[key], branch[key]]))
    elif how == "repeat" and isinstance(branch, list):
        branch.append(copy.deepcopy(branch[key]))
    elif how == "cut" and isinstance(branch[key], str):
        branch[key] = branch[key][: draw(st.integers(0, len(branch[key])))]
    else:
        number = isinstance(branch[key], int | float) and draw(st.booleans())
        branch[key] = copy.deepcopy(pick(draw, NUMBERS if number else VALUES))
    return tree


def damage(draw: Draw, data: bytes) -> bytes:
    """Bytes as a full disk, an interrupted copy, an editor or another encoding leaves them."""
    how = pick(
        draw, ("cut", "cut", "empty", "zeros", "flip", "line", "double", "swap", "utf-16", "latin-1", "crlf", "bom")
    )
    at = draw(st.integers(0, max(0, len(data) - 1)))
    lines = data.splitlines(keepends=True) or [b""]
    line = at % len(lines)
    text = data.decode(errors="replace")
    return {
        "cut": lambda: data[:at],
        "empty": lambda: b"",
        "zeros": lambda: data[:at] + bytes(len(data) - at),
        "flip": lambda: data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :],
        "line": lambda: b"".join(lines[:line] + lines[line + 1 :]),
        "double": lambda: b"".join(lines[: line + 1] + lines[line:]),
        "swap": lambda: b"".join([*lines[:line], b"  " + lines[line], *lines[line + 1 :]]),
        "utf-16": lambda: text.encode("utf-16"),
        "latin-1": lambda: f"# é\n{text}".encode("latin-1", errors="replace"),
        "crlf": lambda: data.replace(b"\n", b"\r\n"),
        "bom": lambda: b"\xef\xbb\xbf" + data,
    }[how]()


def mutated_yaml(draw: Draw, text: str) -> bytes:
    """A YAML file with one to three changes of its tree, or a damaged one."""
    if draw(st.integers(0, 5)) == 0:
        return damage(draw, text.encode())
    tree = yaml.safe_load(text)
    for _ in range(draw(st.integers(1, 3))):
        tree = change(draw, tree)
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode()


def mutated_json(draw: Draw, data: bytes) -> bytes:
    """A JSON file, or one of JSON lines, with a changed value of the right or of another type, or a damaged one."""
    if draw(st.booleans()):
        return damage(draw, data)
    lines = data.splitlines() or [b"{}"]
    try:
        trees = [json.loads(data)]
    except ValueError:
        trees = [json.loads(line) for line in lines]
    at = draw(st.integers(0, len(trees) - 1))
    trees[at] = change(draw, trees[at])
    return "\n".join(json.dumps(tree, default=str, skipkeys=True) for tree in trees).encode()


def word(draw: Draw, keys: Sequence[str]) -> str:
    """A word of the command line: an override with an odd key or value, or no override at all."""
    if draw(st.integers(0, 6)) == 0:
        return draw(st.text(st.sampled_from("abz09.=[]{}(),:'\"\\~+@$é \t*-_/!"), max_size=12))
    key = pick(draw, keys) + (pick(draw, (".x", "s", "..", "@", ".0")) if draw(st.integers(0, 5)) == 0 else "")
    value = pick(draw, NUMBERS if draw(st.booleans()) else VALUES)
    shown = pick(draw, (str(value), json.dumps(value, default=str, skipkeys=True).replace('"', ""), pick(draw, WORDS)))
    return f"{pick(draw, ('', '', '', '', '+', '++', '~'))}{key}={shown}"
