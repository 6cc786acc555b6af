"""Trees that are put together without Hydra are those that Hydra composes; what is not understood is left to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablative.study.core.errors import ConfigError
from ablative.study.installed_trainers import conf_folders
from ablative.study.spec.compose import Composer, _compose
from ablative.study.spec.plain_files import NotPlainError, Source, compose_study, compose_tree

PRIMARY = "defaults: [g: p, h: '${g}', _self_]\na: 1\ng: {x: own}\n"


def by_hydra(composer: Composer, name: str, overrides: list[str], main: Path) -> object:
    return _compose(name, overrides, main, [folder for folder in composer.folders if folder != main])


SHIPPED = Composer(None, conf_folders())
MAIN = SHIPPED.shipped[-1]
TREES = (
    {"data": "openart", "suite": "paper_web", "runtime": "gpu", "schedule": "openart"},
    {"model": "vit_b16", "objective": "mae_clip", "schedule": "web", "suite": "maskclip", "cluster": "h100"},
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "demo" else [pytest.mark.long]) for name in SHIPPED.options("study")],
)
def test_shipped_studies(name: str) -> None:
    """The longest ones take Hydra seconds; the frozen ids, which follow from all of them, are always tested."""
    whole = SHIPPED.study(name).data
    hydra = by_hydra(SHIPPED, f"study/{name}", [], MAIN)
    assert isinstance(hydra, dict) and repr(whole) == repr(hydra["study"])  # and in the same order


def test_trees_of_all_groups() -> None:
    every = tuple(f"+protocol@protocol.{name}={name}" for name in SHIPPED.options("protocol"))
    for choices in TREES:
        tree = compose_tree(SHIPPED._find, MAIN / "config.yaml", choices, every)
        words = [*(f"{group}={option}" for group, option in choices.items()), *every]
        assert repr(tree) == repr(by_hydra(SHIPPED, "config", words, MAIN)), choices


def lying(folder: Path) -> Source:
    def find(group: str, option: str) -> Path | None:
        path = folder / group / f"{option}.yaml"
        return path if path.exists() else None

    return find


OPTIONS = {
    "g/p": "x: 1\ny: {a: 1, b: [1, 2]}\n", "g/q": "x: 2\n", "h/p": "z: 3\n", "h/q": "z: 4\n", "h/s": "z: 8\n",
}  # fmt: skip


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in {"config": PRIMARY, **OPTIONS, **files}.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "choices"),
    [
        ({}, {}),
        ({}, {"g": "q"}),
        ({"g/r": "defaults: [p, _self_]\ny: {b: [3], c: null}\nx: {}\n", "h/r": ""}, {"g": "r"}),
        ({"g/r": "defaults: [_self_, p]\ny: 5\nw: 1e-3\n", "h/r": "z: 0.10"}, {"g": "r"}),
        ({"g/r": "defaults: [/h/q@y, _self_]\ny: {v: 1_000}\n"}, {"g": "r", "h": "p"}),
        ({"g/r": "# @package _global_\nh: {z: 7, more: yes}\ng: {u: on}\n", "h/r": "z: ~"}, {"g": "r"}),
        ({"config": "defaults: [_self_, h: p, g: q]\ng: {x: 9}\nh: {z: [9]}\n"}, {}),
        ({"h/p": "z: ${a}\nw: 'u${g.y.b}'\n"}, {}),
        ({"g/p": "x: &it {a: 1}\ny: {<<: *it, b: 2}\n2: one\ntrue: two\n"}, {}),
    ],
)
def test_what_is_understood(tmp_path: Path, files: dict[str, str], choices: dict[str, str]) -> None:
    write(tmp_path, files)
    tree = compose_tree(lying(tmp_path), tmp_path / "config.yaml", choices, ["+h@k.l=s"])
    words = [*(f"{group}={option}" for group, option in choices.items()), "+h@k.l=s"]
    assert repr(tree) == repr(_compose("config", words, tmp_path, []))


@pytest.mark.parametrize(
    ("files", "choices"),
    [
        ({"config": "defaults: [g: p]\na: 1\n"}, {}),  # it is not said what goes before what
        ({"config": "defaults: [g: p, optional h: p, _self_]\n"}, {}),
        ({"config": "defaults: [g: p, override h: q, _self_]\n"}, {}),
        ({}, {"k": "p"}),
        ({}, {"h": "missing"}),
        ({"g/p": "defaults: [q]\n"}, {}),
        ({"g/p": "defaults: [q, q, _self_]\n"}, {}),
        ({"g/p": "defaults: [/h/q@y, _self_]\n", "h/q": "defaults: [/g/p@z, _self_]\n"}, {}),
        ({"g/p": "defaults: [/h/q@_global_.y, _self_]\n"}, {}),
        ({"g/p": "defaults: [{h: q}, _self_]\n"}, {}),
        ({"g/p": "# @package k.l\nx: 1\n"}, {}),
        ({"g/p": "# a comment\n# @package _global_\nx: 1\n"}, {}),
        ({"g/p": "y: ???\n"}, {}),
        ({"g/p": "y: ${missing}\n"}, {}),
        ({"g/p": "x: 1\nx: 2\n"}, {}),
        ({"g/p": "- 1\n"}, {}),
        ({"g/p": "x: !!binary aGk=\n"}, {}),
    ],
)
def test_what_is_left_to_hydra(tmp_path: Path, files: dict[str, str], choices: dict[str, str]) -> None:
    write(tmp_path, files)
    with pytest.raises(NotPlainError):
        compose_tree(lying(tmp_path), tmp_path / "config.yaml", choices, [])


def test_a_study_from_anywhere_may_use_all_of_hydras_grammar(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    text = "base: {model: tiny, data: shapes, schedule: demo}\nseeds: [0]\nfactors: {size: {few: {data.pairs: 500}}}\n"
    (tmp_path / "first.yaml").write_text(f"name: first\n{text}")
    (tmp_path / "second.yaml").write_text("defaults: [first, _self_]\nname: second\nseeds: [0, 1]\n")
    (tmp_path / "third.yaml").write_text("defaults: [second, {/runtime@extra: default}, _self_]\nname: third\n")
    with pytest.raises(NotPlainError):
        compose_study(lying(tmp_path), "third")
    for seeds in ([0, 1], [0, 1], [2]):
        (tmp_path / "second.yaml").write_text(f"defaults: [first, _self_]\nname: second\nseeds: {seeds}\n")
        for name in ("second", "third"):
            composer = Composer(None, conf_folders(), tmp_path / "home" / "composed.json")
            data = composer.study(str(tmp_path / f"{name}.yaml")).data
            assert (data["name"], data["seeds"]) == (name, seeds)
    (tmp_path / "third.yaml").write_text("defaults: [missing, _self_]\nname: third\n")
    with pytest.raises(ConfigError, match="missing"):
        Composer(None, conf_folders()).study(str(tmp_path / "third.yaml"))
    (tmp_path / "first.yaml").write_text(f"# @package _global_\nname: first\n{text}")
    with pytest.raises(ConfigError, match="@package"):
        Composer(None, conf_folders()).study(str(tmp_path / "first.yaml"))
