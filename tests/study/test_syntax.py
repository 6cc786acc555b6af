"""How studies are written: forms of factors, words, files that YAML would misread, and the lines that messages name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.identity import config_id
from ablative.study.home.paths import Home
from ablative.study.installed_trainers import conf_folders
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec import compose
from ablative.study.spec.claim_grammar import parse
from ablative.study.syntax.factors import whole_factors
from ablative.study.syntax.words import parse_words, with_words
from ablative.study.syntax.yaml_text import read_document

HEAD = "name: mine\nbase: {model: tiny, data: shapes, schedule: demo}\nseeds: [0]\nprotocols: [zero_shot]\n"
FACTORS = "factors:\n  model.pooling: [map, gap]\n  size:\n    few: {data.pairs: 500}\n    many: {data.pairs: 800}\n"
POOLING = {"map": {"model.pooling": "map"}, "gap": {"model.pooling": "gap"}}


def plan_of(folder: Path, text: str, *words: str) -> Plan:
    (folder / "mine.yaml").write_text(HEAD + text)
    return make_plan(str(folder / "mine.yaml"), words, home=Home(folder / "home"))


@pytest.mark.parametrize(
    ("factors", "whole"),
    [
        ({"p": {"key": "model.pooling", "levels": ["map", "gap"]}}, {"p": POOLING}),
        ({"p": {"key": "model.pooling", "levels": {"map": "map", "gap": "gap"}}}, {"p": POOLING}),
        ({"model.pooling": ["map", "gap"]}, {"model.pooling": POOLING}),
        ({"model.pooling": "map"}, {"model.pooling": {"map": {"model.pooling": "map"}}}),
        ({"objective": ["clip", "mae"]}, {"objective": {"clip": {"objective": "clip"}, "mae": {"objective": "mae"}}}),
        ({"p": {"map": {"model": {"pooling": "map"}}, "gap": {"model.pooling": "gap"}}}, {"p": POOLING}),
        ({"a.b": [1, 0.5, True]}, {"a.b": {"1": {"a.b": 1}, "0.5": {"a.b": 0.5}, "true": {"a.b": True}}}),
        (
            {"d": {"key": "a.b", "levels": {"two": [1, 2], "map": {"x": 1}}}},
            {"d": {"two": {"a.b": [1, 2]}, "map": {"a.b": {"x": 1}}}},
        ),
        (
            {"p": {"x": {"from": {"q": "r"}}, "y": None}, "q": None},
            {"p": {"x": {"from": {"q": "r"}}, "y": None}, "q": None},
        ),
    ],
)
def test_forms_of_a_factor(factors: dict[str, Any], whole: dict[str, Any]) -> None:
    assert whole_factors(factors, "f", ["objective"], ["from"]) == whole


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (["p"], r"f: factors: expected factor: levels, as in pooling: \{map: .*, found \['p'\]"),
        (
            {"p": ["map", "gap"]},
            r"factors.p: found \['map', 'gap'\], which .*; write p: \{key: model.pooling, levels: ",
        ),
        ({"p": 3}, "factors.p: found 3, which does not say what it sets"),
        ({"p": {"key": "model.pooling"}}, "factors.p: the short form has a key and its levels"),
        ({"p": {"key": "model.pooling", "values": ["map"]}}, "factors.p: the short form has a key and its levels"),
        ({"a.b": [[1, 2], [3]]}, r"factors.a.b: \[1, 2\] has no name; write \{key: a.b, levels: \{NAME: \[1, 2\]\}\}"),
        ({"a.b": [1, None]}, "factors.a.b: null is no value of a.b"),
        ({"a.b": [1, "1"]}, "factors.a.b: the level 1 is there twice"),
        ({"p": {"x": 0}}, "factors.p.x: expected the overrides that the level means .*found 0"),
        ({"p": {"x": []}}, "factors.p.x: expected the overrides"),
        ({"p": {"x": {"model": {"pooling": "map"}, "model.pooling": "gap"}}}, "factors.p.x: sets model.pooling twice"),
        ({"p": {True: {}}}, "put it in quotes"),
    ],
)
def test_a_factor_of_no_form_is_one_error_that_shows_one(factors: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        whole_factors(factors, "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  0.1: x\n  0.10: y", ":3: a: 0.1 and 0.10 are one name, 0.1; write both in quotes"),
        ("a: {1: x, 1.0: y}", ":1: a: 1 and 1.0 are one name"),
        ("a: {1_000: x, 1000: y}", "1_000 and 1000 are one name"),
        ("a: {1: x, '1': y}", "1 and '1' are one name"),
        ("a: {x: 1, x: 2}", "found duplicate key x"),
        ("steps: 060", ":1: steps: 060 is read as an octal number, 48; write 60, or '060' in quotes"),
        ("a: {010: x}", "a.010: 010 is read as an octal number, 8"),
        ("b: 1\na: 1:30", ":2: a: 1:30 is read as 90, base 60"),
        ("a: {null: x}", "a: a name is read as null; write 'null' in quotes"),
        ("a: {.inf: x}", "the number inf; write '.inf' in quotes"),
        ("a: [1, .nan]", r"a\[1\]: .nan is no finite number"),
        ("a: {[x]: y}", "a: expected a name before the colon, found a sequence"),
        ("a: &x [*x]", r"a\[0\]: an alias"),
        ("a: " + "[" * 3000, "nested more than 50 levels deep"),
        ("b: 1\na: ]", ":2: not YAML"),
        ("- a", ":1: expected keys and values, found a sequence"),
        ("# Größe\na: x".encode("latin-1"), "no UTF-8 \\(byte 4\\); save the file as UTF-8"),
        ("a: x".encode("utf-16"), "no UTF-8 \\(byte 0\\)"),
    ],
)
def test_what_yaml_would_misread_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "s.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=f"s.yaml.*{message}"):
        read_document(tmp_path / "s.yaml")


def test_what_yaml_reads_as_it_is_written(tmp_path: Path) -> None:
    text = (
        "\ufeffa: {'0.1': x, '0.10': y, 1e-3: z, 2024-01-01: d}\nb: ['060', '1:30', 1_000, 0x10]\nc: &c {d: 1}\ne: *c\n"
    )
    (tmp_path / "s.yaml").write_text(text)
    lines = read_document(tmp_path / "s.yaml").lines
    assert (
        lines["a.0.10"] == 1 and lines["a.0.001"] == 1 and lines["b[3]"] == 2 and lines["c.d"] == 3 and lines["e"] == 4
    )


ODD = """\
a: [1e3, 1.e2, .5, 1_000, 0x1F, 0b11, yes, Off, ~, 2024-01-02, "1", '???', é]
1: {2.5: x, true: y}
one: &one {k: [1, {l: m}]}
two: {<<: *one, n: *one}
text: >
  many
  words
"""


def test_a_file_to_which_hydra_adds_nothing_is_read_as_hydra_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "study" / "odd.yaml"
    path.parent.mkdir()
    path.write_text(ODD)
    alone = read_document(path).alone
    assert repr({"study": alone}) == repr(compose._compose("study/odd", [], tmp_path, conf_folders()))
    assert alone is not None and alone["two"]["n"] is not alone["one"], "no value is part of two"
    for more in (
        "defaults: [tiny]\n",
        "b: ${a}\n",
        "# @package _global_\n",
        "b: !!set {c}\n",
        "b: !!binary aGk=\n",
        "b: =\n",
    ):
        path.write_text(ODD + more)
        assert read_document(path).alone is None


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a.b=/x/{0..3}.tar", "/x/{0..3}.tar"),
        ("a.b=/x/run=1", "/x/run=1"),
        ("a.b=/x/josé (2)#", "/x/josé (2)#"),
        ("a.b='é,b'", "é,b"),
        ("a.b={key: x, levels: [1, 2]}", {"key": "x", "levels": [1, 2]}),
    ],
)
def test_a_value_with_signs_of_its_own_is_text(word: str, value: object) -> None:
    assert parse_words([word]) == {"a.b": value}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a=[1,é]", "'é'; text with signs of its own goes in quotes, also within"),
        (
            "a=x,y",
            r"sweeps are a study's factors: 'factors.NAME=\{key: a, levels: \[x,y\]\}'; .* in quotes: 'a=\"x,y\"'",
        ),
        ("+a=1", r"without '\+'; write a=VALUE"),
        ("~claims", "claims=null takes claims away"),
        ("a=inf", "expected finite numbers"),
        ("a={b: [nan]}", "expected finite numbers"),
        ("a=" + "[" * 3000, "more than 50 brackets"),
        ("é", "expected key=value"),
    ],
)
def test_a_word_that_cannot_be_read(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_words([word])


@pytest.mark.parametrize(
    ("level", "found"), [("1e-3", "0.001"), ("1_000", "1000"), (".5", "0.5"), ("yes", "true"), ("OFF", "false")]
)
def test_a_level_that_was_written_without_its_quotes(level: str, found: str) -> None:
    message = unknown("level", found, [level, f"{found}1", "other"], "baseline.w")
    assert f"unknown level '{found}'; '{level}' without quotes is read as {found}: write it in quotes" in message
    assert "did you mean" in unknown("level", "othe", [level, "other"])
    assert "quotes" not in unknown("level", "true", ["1", "text"])


def test_words_reach_factors_and_levels_with_dots() -> None:
    study = {"factors": {"a.b": {"0.1": {"a.b": 0.1}, "0.2": {"a.b": 0.2}}, "c": {"x": {"d.e": 1}, "y": {}}}}
    found = with_words(study, {"factors.a.b": [0.1], "factors.c.x.d.e": 2, "factors.c.y": None, "seeds": [1]})
    assert found == {
        "factors": {"a.b": {"0.1": {"a.b": 0.1}, "0.2": None}, "c": {"x": {"d.e": 2}, "y": None}},
        "seeds": [1],
    }
    with pytest.raises(ConfigError, match=r"override 'factors.c': unknown level 'z'"):
        with_words(study, {"factors.c": ["z"]})


def test_levels_in_a_list_and_words_that_keep_some(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, FACTORS)
    assert [tuple(cell.values()) for cell in plan.cells] == [(p, s) for p in ("map", "gap") for s in ("few", "many")]
    kept = plan_of(tmp_path, FACTORS, "factors.model.pooling=[gap]", "factors.size=[few]")
    assert [run.task_id for run in kept.runs] == [plan.runs[2].task_id]


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("baseline: 0\n", (), "mine.yaml:10: baseline: expected keys and values, found 0"),
        ("drop: ''\n", (), "mine.yaml:10: drop: expected a list of conditions"),
        ("search: false\n", (), "mine.yaml:10: search: expected keys and values"),
        (
            "",
            ("seeds=3",),
            r"override 'seeds=3': seeds: 3 may be .* write \[3\] for that seed, or list them: \[0, 1, 2\]",
        ),
        ("", ("seeds=[9223372036854775808]",), r"seeds: expected whole numbers from 0 to 2\^63 - 1"),
        ("", ("size=few",), r"override 'size=few': size is a factor; 'factors.size=\[few\]' keeps that level"),
        (
            "",
            ("data.pairs=7",),
            r"this key, 'size'; 'factors.size=\[few\]' keeps some .* factors.size=null takes it away",
        ),
        ("", ("suite.protocols.zero_shot=3",), r"suite.protocols.zero_shot\[0\]: expected text, found 3"),
        ("", ("suite.protocols.zeroshot=[digits]",), "unknown kind of protocol 'zeroshot'; did you mean 'zero_shot'"),
        ("", ("suite.datasets=null",), "suite.datasets: expected keys and values, found None"),
        ("", ("suite.groups.natural=3",), r"suite.groups.natural\[0\]: expected text"),
        ("", ("schedule.lr='inf'",), "schedule.lr: expected a finite number, found inf"),
        ("", ("model=tinny",), "override 'model=tinny': model: unknown model 'tinny'; did you mean 'tiny'"),
        ("", ("model.width=wide",), "override 'model.width=wide': model.width: expected a whole number"),
        (
            "tables: {t: {rows: [size], columns: [{metric: train/loss}]}}\n",
            ("tables.t.rowss=3",),
            "override 'tables.t.rowss=3': tables.t: unknown key 'rowss'",
        ),
        ("factors2: {}\n", (), "mine.yaml:10: unknown key 'factors2'"),
        (
            "title: ${schedule.steps}\n",
            (),
            "mine.yaml:10: title: Interpolation key .* never one of a run's configuration",
        ),
        (
            "tables: {t: {rows: [size, size], columns: [{metric: train/loss}]}}\n",
            (),
            "mine.yaml:10: tables.t: rows and split: 'size' is there twice",
        ),
        (
            "tables:\n  t:\n    rows: [size]\n    columns:\n    - {metric: train/loss}\n    - {metric: []}\n",
            (),
            r"mine.yaml:15: tables.t.columns\[1\].metric: empty",
        ),
        (
            "tables: {t: {rows: [size], columns: [{metric: train/loss}, {metric: train/loss}]}}\n",
            (),
            r"mine.yaml:10: tables.t.columns\[1\]: the same as columns\[0\]",
        ),
        (
            "tables: {t: {rows: [size], columns: [{metric: train/loss}], where: {size: []}}}\n",
            (),
            "mine.yaml:10: tables.t.where.size: no levels, so that no cell is left",
        ),
        (
            "figures: {f: {kind: bars, metric: train/loss, x: size, hue: size}}\n",
            (),
            "mine.yaml:10: figures.f: x, hue and panel: 'size' is there twice",
        ),
        (
            "figures: {f: {kind: bars, metric: train/loss, x: size}}\n",
            (),
            "mine.yaml:10: figure 'f': several cells share",
        ),
        ("claims: {c: {statement: few > many, metric: []}}\n", (), "mine.yaml:10: claims.c.metric: empty"),
    ],
)
def test_messages_name_the_line_or_the_word(tmp_path: Path, text: str, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        plan_of(tmp_path, FACTORS + text, *words)
    assert "\n" not in str(error.value)


def test_a_level_that_its_run_cannot_have_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"mine.yaml:8: factors.size.few: model: unknown key 'poling'.*\(cell .*size=few"
    ):
        plan_of(tmp_path, FACTORS.replace("few: {data.pairs: 500}", "few: {model.poling: gap}"))


def test_a_study_that_starts_from_another_names_the_line_of_either_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(HEAD + FACTORS + "baseline: {size: some}\n")
    (tmp_path / "mine.yaml").write_text("defaults: [base, _self_]\nname: other\n")
    with pytest.raises(ConfigError, match=r"base.yaml:10: baseline.size: unknown level 'some'"):
        make_plan(str(tmp_path / "mine.yaml"), home=Home(tmp_path / "home"))
    (tmp_path / "mine.yaml").write_text("defaults: [base, _self_]\nname: other\nbaseline:\n  size: none\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:4: baseline.size: unknown level 'none'"):
        make_plan(str(tmp_path / "mine.yaml"), home=Home(tmp_path / "home"))


def test_outputs_that_stay_empty_are_named(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    where = "where: {model.pooling: gap, size: few}"
    text = f"tables: {{t: {{rows: [size], columns: [{{metric: train/loss}}], {where}}}}}\n"
    plan_of(tmp_path, FACTORS + text)
    file = str(tmp_path / "mine.yaml")
    assert "stay empty" not in call_ablate(tmp_path, "plan", file)
    shown = call_ablate(tmp_path, "plan", file, "drop=[{model.pooling: gap, size: few}]")
    assert "so that they stay empty: tables.t." in shown


def test_levels_that_are_numbers_are_named_as_yaml_writes_them(tmp_path: Path) -> None:
    factors = "factors: {schedule.lr: [1e-3, 0.01], size: {key: model.depth, levels: [2, 3]}}\n"
    table = "tables: {t: {rows: [schedule.lr], columns: [{metric: train/loss}], where: {size: 2, schedule.lr: [1e-3]}}}"
    plan = plan_of(tmp_path, factors + "baseline: {schedule.lr: 0.01, size: 2}\n" + table)
    assert plan.study.factors == {"schedule.lr": ("0.001", "0.01"), "size": ("2", "3")}
    assert plan.study.tables["t"].where == {"size": ("2",), "schedule.lr": ("0.001",)}


def test_deep_parentheses_of_a_claim() -> None:
    for text in ("(" * 3000 + "a" + ")" * 3000 + " > b", "2 * " * 3000 + "a > b"):
        with pytest.raises(ConfigError, match=r"claims.c: .*more than 50"):
            parse(text, "claims.c")
    assert len(parse("(" * 20 + "a" + ")" * 20 + " > b", "claims.c")) == 1


def test_minus_zero_has_the_id_of_zero() -> None:
    assert config_id({"lr": -0.0, "layers": [-0.0]}) == config_id({"lr": 0.0, "layers": [0.0]})


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "josé (a=b), [c] {d} it's #1 \\'"
    (folder / "study").mkdir(parents=True)
    (folder / "model").mkdir()
    shutil.copy(conf_folders()[0] / "model" / "tiny.yaml", folder / "model" / "own.yaml")
    (folder / "study" / "mine.yaml").write_text((HEAD + FACTORS).replace("tiny", "own"))
    plan = make_plan("mine", config_dir=str(folder), home=Home(tmp_path / "home"))
    assert plan.tasks == make_plan(str(folder / "study" / "mine.yaml"), home=Home(tmp_path / "home")).tasks


def test_where_a_study_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_ablate: Callable[..., str]
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "grid.yaml").write_text(HEAD + FACTORS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=r"unknown study 'grid'.* its path means: \./study/grid.yaml"):
        call_ablate(tmp_path / "home", "plan", "grid")
    with pytest.raises(AssertionError, match=r"study ./grids.yaml: no such file"):
        call_ablate(tmp_path / "home", "plan", "./grids.yaml")
    shown = call_ablate(tmp_path / "home", "plan", "./study/grid.yaml", "--json")
    monkeypatch.setenv("ABLATE_CONFIG_DIR", str(tmp_path))
    assert call_ablate(tmp_path / "home", "plan", "grid", "--json") == shown
