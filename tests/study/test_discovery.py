"""What can be typed: keys, topics, lists, metrics, states by cell, completion, and the schema against the parser."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import jsonschema
import pytest

from ablative.study.cli import ablate, main
from ablative.study.core.typed import field
from ablative.study.discovery import completion
from ablative.study.discovery.catalogue import catalogue
from ablative.study.discovery.environment import IN_JOBS, INTERNAL, VARIABLES
from ablative.study.discovery.home_files import home_files
from ablative.study.discovery.keys import UndocumentedError, declared
from ablative.study.discovery.schema import study_schema
from ablative.study.discovery.topics import topics
from ablative.study.syntax import yaml_text

ROOT = Path(__file__).parents[2]
STUDIES = [*(ROOT / "trainer" / "clip" / "conf" / "study").glob("*.yaml"), *(ROOT / "examples").glob("*/study.yaml")]
VALIDATOR = jsonschema.Draft202012Validator(json.loads(json.dumps(study_schema())))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_key_is_there_with_type_default_range_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    found = {key.name: key for key in catalogue()}
    assert len(found) == len(catalogue()) > 350 and all(key.meaning for key in found.values())
    pooling, margin = found["model.pooling"], found["claims.NAME.margin"]
    assert (pooling.kind, pooling.default, pooling.owner) == ("map | gap | max | cls", "map", "clip")
    assert (margin.kind, margin.limits, margin.default) == ("number", "≥ 0", "0.0")
    assert {"stages.NAME.launch.with", "results.metrics.NAME.scale", "search.confirm.top", "cluster.hours"} < set(found)
    assert main(["keys", "tables.main.columns.dig"], standalone=False) == 0
    assert capsys.readouterr().out.startswith("tables.NAME.columns[].digits: whole number, or null, ≥ 0, ≤ 6; default")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nested:
    named: int = field(1)
    """A meaning."""
    bare: int = field(2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    inner: dict[str, list[Nested]] = field(None)
    """A meaning."""


def test_a_key_without_a_docstring_is_refused() -> None:
    with pytest.raises(UndocumentedError, match=r"Nested\.bare \(outer\.inner\.NAME\[\]\.bare\) has no docstring"):
        list(declared(Outer, "outer", "study"))


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["keys", "modle"], "did you mean 'model'"),
        (["keys", "tables.main.colums"], "did you mean 'tables.NAME.columns'"),
        (["help", "clams"], "did you mean 'claims'"),
        (["help", "objective.w_imge"], "objective.w_image"),
        (["list", "trainer"], "did you mean 'trainers'"),
        (["list", "model.tin"], "did you mean 'tiny'"),
        (["status", "demo", "--cells", "--where", "scal=small"], "did you mean 'scale'"),
        (["status", "demo", "--cells", "--where", "scale=smal"], "did you mean 'small'"),
        (["metrics", "dmo"], "did you mean 'demo'"),
    ],
)
def test_what_does_not_exist_is_one_line_with_the_nearest_name(
    words: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words, standalone=False) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert nearest in line


def test_lists_topics_metrics_and_states_by_cell(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*words: str) -> str:
        assert main(words, standalone=False) == 0
        return capsys.readouterr().out

    assert "figures.NAME.kind" in shown("list", "kinds") and "slurm" in shown("list", "executors")
    assert "stages" in json.loads(shown("list", "trainers", "--json"))["program"]
    assert "\nname: tiny\n" in shown("list", "model.tiny")
    assert json.loads(shown("list", "model.tiny", "--json"))["content"]["name"] == "tiny"
    listed = shown("help")
    assert all(re.search(rf"^  {topic} +\w", listed, re.MULTILINE) for topic in topics())
    for topic in topics():
        assert len(shown("help", topic).splitlines()) > 3
    assert "Usage: ablate plan" in shown("help", "plan") and "default map" in shown("help", "model.pooling")
    metrics = {metric["name"]: metric for metric in json.loads(shown("metrics", "demo", "--json"))}
    assert metrics["zero_shot/shapes_object/top1"]["better"] == "higher" and "train/loss" in shown("metrics", "demo")
    rows = shown("status", "demo", "--cells", "--where", "scale=small").splitlines()
    assert rows[0].split()[:3] == ["scale", "method", "pooling"] and len(rows) == 7
    assert all(row.split()[0] == "small" for row in rows[1:]) and re.search(r" 0/12 +2 eligible 10 waiting$", rows[1])
    data = json.loads(shown("status", "demo", "--cells", "--json"))
    assert len(data["cells"]) == 16 and data["cells"][0]["counts"]["eligible"] == 2


def test_a_broken_study_ends_neither_the_list_nor_the_completion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my" / "study"
    folder.mkdir(parents=True)
    (folder / "latin.yaml").write_bytes(b"# caf\xe9\nname: latin\n")
    (folder / "broken.yaml").write_text("name: [\n")
    (folder / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (folder / "mine.yaml").write_text("# Mine.\nname: mine\nfactors: {a: {x: {seeds: [0]}, y: {seeds: [1]}}}\n")
    assert main(["list", "--config-dir", str(folder.parent)], standalone=False) == 0
    listed = capsys.readouterr().out
    assert "cannot be read" in listed and re.search(r"^mine +Mine\.$", listed, re.MULTILINE) and "broken" in listed
    mine = {"config_dir": str(folder.parent)}
    assert completed("studies", "", **mine) >= {"broken", "demo", "latin", "mine"}
    assert completed("conditions", "", study_name="mine", **mine) == {"a=x", "a=y"}
    for name in ("broken", "latin", "gone", "nowhere", ""):
        assert completed("outputs", "", study_name=name, **mine) == set()


def completed(kind: str, begun: str, **params: str) -> set[str]:
    context = click.Context(ablate)
    context.params = dict(params)
    return set(completion.suggestions(kind, context, begun))


def test_completion_has_studies_tables_claims_levels_keys_and_topics() -> None:
    demo = {"study_name": "demo"}
    assert completed("outputs", "t", **demo) == {"table4", "text_helps"}
    assert completed("cells", "scale=small,method=m", **demo) >= {"scale=small,method=mae_clip"}
    assert completed("words", "model=t") >= {"model=tiny"} and completed("words", "model.pooling=g") == {
        "model.pooling=gap"
    }
    assert completed("words", "schedule.st") == {"schedule.steps="} and "protocols" in completed("keys", "proto")
    assert completed("topics", "cl") == {"claims"} and completed("lists", "model.v") >= {"model.vit_b16"}
    # A study that starts from another has its tables, too.
    assert completed("outputs", "tab", study_name="mae_clip_cc")


BASH = """eval "$(_ABLATE_COMPLETE=bash_source ablate)"
compopt() { :; }
COMP_WORDS=(ablate plan demo model = vit_b16_m); COMP_CWORD=5; _ablate_completion ablate; echo "${COMPREPLY[*]}"
COMP_WORDS=(ablate nonsense x); COMP_CWORD=2; _ablate_completion ablate; echo "${COMPREPLY[*]}"
COMP_WORDS=(ablate why broken.yaml ''); COMP_CWORD=3; _ablate_completion ablate; echo "${COMPREPLY[*]}"
"""


def test_in_a_shell(tmp_path: Path) -> None:
    """Bash splits words at `=`; whatever goes wrong, nothing is printed."""
    (tmp_path / "broken.yaml").write_text("name: [\n")
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", BASH], cwd=tmp_path, env=path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("vit_b16_maskclip\n\n\n", "")
    for shell in ("zsh", "fish"):
        done = subprocess.run(
            ["ablate"], env={**path, "_ABLATE_COMPLETE": f"{shell}_source"}, capture_output=True, text=True, check=True
        )
        assert f"_ABLATE_COMPLETE={shell}_complete" in done.stdout and not done.stderr


def test_every_command_has_an_example_that_it_takes() -> None:
    from test_cli import ALL

    for name, command in ALL.items():
        text = command.get_help(click.Context(command, info_name=name))
        lines = re.findall(r"^  +ablate (.*)$", text.partition("Example:")[2], re.MULTILINE)
        assert lines, f"ablate {name} --help has no example"
        for line in lines:
            command.make_context(name, shlex.split(re.sub(r" > .*", "", line))[len(name.split()) :])


def test_variables_and_files_are_all_listed() -> None:
    known = {*VARIABLES, *IN_JOBS, *INTERNAL}
    for package in ("study", "trainer", "sweeps", "reports"):
        for path in (ROOT / package).rglob("*.py"):
            for name in re.findall(r"\bABLATE_[A-Z_]*[A-Z]\b", path.read_text()):
                assert name in known or name == "ABLATE_STAGE", f"{path}: {name}"
    files = dict(home_files())
    assert files["<task>/record.json"] and "runs/<run id>/checkpoints/last.pt" in files


def content(path: Path) -> object:
    return plain(yaml_text.content(path))


def plain(value: object) -> object:
    """As JSON has it: keys are texts."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_schema_takes_every_study(path: Path) -> None:
    assert not [f"{list(error.path)}: {error.message}" for error in VALIDATOR.iter_errors(content(path))]


REFUSED = [
    "nme: x",
    "tables: {main: {row: [a]}}",
    "tables: {main: {rows: [a], columns: [{metric: a/b, digits: 9}]}}",
    "tables: {main: {rows: [a]}}",
    "tables: {main: {rows: [a], columns: [{metric: a/b}], delta: perhaps}}",
    "figures: {f: {kind: pie}}",
    "claims: {c: {statement: x > y, metric: a/b, margin: -1}}",
    "claims: {c: {statement: x > y}}",
    "seeds: 3",
    "seeds: [one]",
    "seeds: [-1]",
    "design: produkt",
    "drop: {a: x}",
    "base: [tiny]",
    "title: [a, b]",
    "report: {marks: bold}",
    "protocols: zero_shot",
    "search: {parameters: {schedule.lr: {low: a, high: 1}}, objective: [{metric: a/b}], budget: {trials: 3}}",
    "search: {parameters: {schedule.lr: [1, 2]}, objective: [{metric: a/b}], budget: {trial: 3}}",
]
OF_PROGRAMS = [
    "stages: {train: {comand: python train.py}}",
    "stages: {train: {command: {python: train.py}}}",
    "stages: {train: {command: python train.py, seeded: maybe}}",
    "stages: {train: {command: python train.py, stop: {signal: KILL}}}",
    "stages: {train: {command: python train.py, stop: {grace: -1}}}",
    "stages: {train: {command: python train.py, metrics: {loss: {better: lowest}}}}",
    "stages: {train: {command: python train.py, metrics: {loss: {jsnl: x}}}}",
    "stages: {train: {command: python train.py, each: {set: one}}}",
    "stages: {train: {command: python train.py, launch: {with: mpirun}}}",
    "stages: {train: {command: [python, [train.py]]}}",
    "unhashed: [[a]]\nstages: {train: python train.py}",
    "code: {foldr: .}\nstages: {train: python train.py}",
]


@pytest.mark.parametrize("line", [*REFUSED, *OF_PROGRAMS])
def test_what_the_schema_refuses_the_parser_refuses(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = line.partition(":")[0]
    rest = {
        "name": "name: x",
        "base": "base: {model: tiny, data: shapes, schedule: demo}",
        "factors": "factors: {a: {x: {model.pooling: map}, y: {model.pooling: gap}}}",
    }
    if line in OF_PROGRAMS:
        rest = {"name": "name: x", "seeds": "seeds: [0]"}
    path = tmp_path / "study.yaml"
    path.write_text("\n".join([*(text for name, text in rest.items() if name != key), line]))
    (tmp_path / "train.py").write_text("")
    assert list(VALIDATOR.iter_errors(content(path)))
    assert main(["plan", str(path)], standalone=False) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_schema_takes_what_the_parser_takes_in_other_forms(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "defaults: [demo, _self_]\nname: x\nseeds: [0]\ntitle: 3\nclaims: {old: null, own: {margin: '${seeds.0}'}}\n"
        "tables: {main: {rows: a, columns: {metric: a/b}}}\nfactors: {model.pooling: [map, gap], a: null}\n"
        "search: {parameters: {schedule.lr: {low: 5e-4, high: 1}}, sampler: {name: tpe, multivariate: true}}\n"
    )
    errors = [f"{list(error.path)}: {error.message}" for error in VALIDATOR.iter_errors(content(path))]
    assert errors == []


def test_the_schema_is_written_where_the_first_line_says(
    tmp_path: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = call_ablate(tmp_path / "home", "schema", "--write").splitlines()[-1]
    assert line == "# yaml-language-server: $schema=home/study-schema.json"
    assert json.loads((tmp_path / "home" / "study-schema.json").read_text()) == json.loads(
        call_ablate(tmp_path / "home", "schema")
    )
