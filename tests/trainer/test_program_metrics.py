"""Metrics of users' programs: declarations, every kind of source, files that change while they are read."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablative.study.core.errors import ConfigError
from ablative.trainer.program.metrics import event_files, series, tails
from ablative.trainer.program.metrics.mlflow_setup import prepare_mlflow, store_template
from ablative.trainer.program.metrics.reader import Ended, MetricReader
from ablative.trainer.program.metrics.series import Value
from ablative.trainer.program.metrics.sources import filled, parse_metrics

EVENTS = Path(__file__).with_name("event_files")
FROZEN_HOME = Path(__file__).parents[1] / "frozen" / "home.tar.gz"
NANO = r"step (?P<step>\d+): train loss (?P<train>\S+), val loss (?P<val>\S+)"


def reader(out: Path, metrics: object, earlier: Iterable[Value] = ()) -> MetricReader:
    return MetricReader(parse_metrics(metrics, "metrics"), out, earlier)


def whole(out: Path, metrics: object, earlier: Iterable[Value] = ()) -> Ended:
    return reader(out, metrics, earlier).finish()


def points(values: Sequence[Value]) -> list[tuple[int, float]]:
    return [(value.step, value.value) for value in values]


def test_a_declaration_names_metrics_and_where_they_are() -> None:
    found = parse_metrics(
        {
            "test/loss": {"better": "lower", "jsonl": "{out}/log.jsonl", "key": "val_loss"},
            "accuracy": "higher",
            "plain": None,
            "speed": {"stdout": r"(\d+) it/s"},
            "*/loss": {"stdout": NANO, "keys": ["train", "val"]},
            "{set}/*": {"json": "{set}.json", "keys": ["top1"], "rename": {"R@5": "recall_at_5"}},
            "curve": {"tensorboard": "logs", "key": "Loss (train)"},
            "auto": {"mlflow": "val_accuracy"},
            "own": {"mlflow": True, "file": "mlruns"},
        },
        "metrics",
    )
    assert [(source.name, source.kind, source.file, source.key) for source in found] == [
        ("test/loss", "jsonl", "log.jsonl", "val_loss"),
        ("accuracy", "reported", "", "accuracy"),
        ("plain", "reported", "", "plain"),
        ("speed", "stdout", "", "1"),
        ("train/loss", "stdout", "", "train"),
        ("val/loss", "stdout", "", "val"),
        ("{set}/top1", "json", "{set}.json", "top1"),
        ("{set}/recall_at_5", "json", "{set}.json", "R@5"),
        ("curve", "tensorboard", "logs", "Loss (train)"),
        ("auto", "mlflow", "", "val_accuracy"),
        ("own", "mlflow", "mlruns", "own"),
    ]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (None, "metrics: expected names of metrics, found None"),
        ({"a": {"jsnl": "x"}}, "metrics.a: unknown key 'jsnl'; did you mean 'jsonl'?"),
        ({"a": {"jsonl": "x", "csv": "y"}}, "metrics.a: two sources, jsonl and csv"),
        ({"a": "lowr"}, "metrics.a: unknown direction 'lowr'; did you mean 'lower'?"),
        (
            {"P@1": {"csv": "x"}},
            "metrics.P@1: MLflow takes no metric of the name 'P@1'; write 'P_1: {csv: …, key: P@1}'",
        ),
        (["a//b"], "metrics.a//b: MLflow takes no metric of the name 'a//b'; write 'a/b: {key: a//b}'"),
        (
            {"x/*": {"csv": "l", "keys": ["P@1"]}},
            "metrics.x/*: MLflow takes no metric of the name 'x/P@1'; write 'rename: {P@1: P_1}'",
        ),
        ({"a": {"jsonl": "/tmp/log"}}, "metrics.a: file '/tmp/log'; expected one below the task's outputs"),
        ({"a": {"csv": "x/../../y"}}, "expected one below the task's outputs"),
        ({"a": {"csv": "**x"}}, "metrics.a: file '**x': no file name, nor a pattern"),
        ({"a": {"jsonl": ""}}, "metrics.a.jsonl: empty; expected a file"),
        ({"a": {"stdout": "acc ("}}, "metrics.a.stdout: no regular expression: missing )"),
        ({"a": {"stdout": r"acc \S+"}}, "which part is the number? write (?P<value>"),
        ({"a": {"stdout": NANO}}, "or say 'key: GROUP' (groups: train, val)"),
        ({"a": {"stdout": NANO, "key": "vall"}}, "metrics.a.stdout: unknown group 'vall'; did you mean 'val'?"),
        ({"a": {"stdout": "(x)", "step": "epoch"}}, "metrics.a.step: the pattern's group (?P<step>…) is the step"),
        ({"*": {"jsonl": "l"}}, "metrics.*: '*' takes several metrics of one source; name them by 'keys: [KEY, …]'"),
        ({"a": {"jsonl": "l", "take": "best"}}, "metrics.a.take: 'best' needs 'better: higher' or 'better: lower'"),
        ({"a": None, "*": {"csv": "x", "keys": ["a"]}}, "metrics: metric 'a' is declared twice"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_one_line(metrics: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_metrics(metrics, "metrics")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_words_are_filled_literally_and_a_name_that_they_spoil_is_refused() -> None:
    (source,) = parse_metrics({"{set}/top1": {"stdout": r"{set}: \d{2}\.(?P<value>\d{1,3})"}}, "metrics")
    (digits,) = [filled(source, {"set": "digits.v2"}, "metrics")]
    assert (digits.name, digits.pattern) == ("digits.v2/top1", r"digits\.v2: \d{2}\.(?P<value>\d{1,3})")
    with pytest.raises(ConfigError, match="no metric of the name 'a:b/top1'; write 'a_b/top1"):
        filled(source, {"set": "a:b"}, "metrics")
    with pytest.raises(ConfigError, match=r"name: unknown word 'set'; did you mean 'sets'\?"):
        filled(source, {"sets": "a"}, "metrics")


def test_json_lines_have_keys_steps_and_scales(tmp_path: Path) -> None:
    records = [
        {"iter": 5, "val": {"loss": 2.0}, "test/acc": 0.5},
        {"iter": 10, "val": {"loss": "1.5"}, "test/acc": None},
        {"iter": 15, "val": {"loss": math.nan}},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(record) + "\r\n\n" for record in records))
    metrics = {
        "loss": {
            "jsonl": "log.jsonl",
            "key": "val.loss",
            "step": "iter",
            "better": "lower",
            "take": "best",
            "diverges": True,
        },
        "acc": {"jsonl": "log.jsonl", "key": "test/acc", "scale": 100},
        "plain": {"jsonl": "log.jsonl", "key": "acc"},
    }
    read = reader(tmp_path, metrics)
    values = read.poll()
    assert [value for value in values if value.name == "acc"] == [Value("acc", 0, 50.0)]
    assert points([value for value in values if value.name == "loss"])[:2] == [(5, 2.0), (10, 1.5)]
    assert read.diverged and read.diverged.step == 15
    ended = read.finish()
    assert (ended.values, ended.final, ended.closing) == ((), {"loss": 1.5, "acc": 50.0}, (Value("loss", 16, 1.5),))
    assert ended.missing == {"plain": "plain: log.jsonl has 3 records, none with key 'acc'; nearest 'test/acc'"}


def test_output_is_searched_in_lines_bars_and_colours(tmp_path: Path) -> None:
    metrics = {
        "*/loss": {"stdout": NANO, "keys": ["train", "val"]},
        "acc": {"stdout": "acc=(.*)"},
        "never": {"stdout": "AUC (?P<value>.*)"},
    }
    read = reader(tmp_path, metrics)
    found = read.line("step 20: train loss 4.91, val loss 5.0")
    assert found == [Value("train/loss", 20, 4.91), Value("val/loss", 20, 5.0)]
    assert read.line("\x1b[32m 10% acc=\x1b[1m80\x1b[0m\r 20% acc=81.5%\n") == [
        Value("acc", 0, 80.0),
        Value("acc", 1, 81.5),
    ]
    assert not read.line("acc=n/a") and not read.line("done") and not read.line("step 10: train loss 1, val loss 1")
    ended = read.finish()
    assert ended.final == {"train/loss": 1.0, "val/loss": 1.0, "acc": 81.5}
    assert ended.closing == (Value("train/loss", 21, 1.0), Value("val/loss", 21, 1.0))
    assert ended.missing["never"] == (
        "never: 'AUC (?P<value>.*)' matches none of 6 lines of output; "
        "the last with a number: 'step 10: train loss 1, val loss 1'"
    )
    assert "acc: 1 value is no number (first: 'n/a')" in ended.notes
    assert "val/loss: 1 value at a step that does not grow is left out (first: step 10 after 20)" in ended.notes


def test_what_a_program_reports_needs_no_steps(tmp_path: Path) -> None:
    read = reader(tmp_path, ["accuracy"], [Value("accuracy", 0, 0.1), Value("accuracy", 1, 0.2)])
    assert points(read.report({"accuracy": 0.5}) + read.report({"accuracy": 0.4, "other": 1})) == [(2, 0.5), (3, 0.4)]
    assert whole(tmp_path, ["accuracy"]).missing == {"accuracy": "accuracy: the program reported nothing"}


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("epoch,val loss,acc\n0,2.5,\n1,1.5,0.5\n", "val loss", [(0, 2.5), (1, 1.5)]),
        ("\ufeffepoch;acc\n3;7\nepoch;acc\n4;8\n", "acc", [(3, 7), (4, 8)]),
        ('epoch\tnote\tacc\n0\t"two\nlines"\t1\n1\t"a ""b"""\t2', "acc", [(0, 1), (1, 2)]),
        ("epoch,loss\n0,9\nepoch,loss,acc\n1,8,0.1\n", "acc", [(1, 0.1)]),
    ],
)
def test_tables_have_headers(tmp_path: Path, text: str, key: str, expected: list[tuple[int, float]]) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    assert points(whole(tmp_path, {"m": {"csv": "*.csv", "key": key, "step": "epoch"}}).values) == expected


@pytest.mark.parametrize(
    ("document", "key", "expected"),
    [
        ({"test": {"top1": 0.5}}, "test.top1", [(0, 0.5)]),
        ({"loss": [3.0, 2.0, 1.0], "acc": []}, "loss", [(0, 3.0), (1, 2.0), (2, 1.0)]),
        (
            {"global_step": 9, "log_history": [{"step": 4, "loss": 2}, {"step": 8, "eval": 1}]},
            "log_history.loss",
            [(4, 2)],
        ),
        ([{"step": 1, "acc": 1}, {"step": 2, "acc": 2}], "acc", [(1, 1), (2, 2)]),
    ],
)
def test_documents_are_results_or_histories(
    tmp_path: Path, document: object, key: str, expected: list[tuple[int, float]]
) -> None:
    file, read = tmp_path / "a.json", reader(tmp_path, {"m": {"json": "a.json", "key": key}})
    file.write_text(json.dumps(document)[:-3])
    assert not read.poll()
    file.write_text(json.dumps(document))
    assert points([*read.poll(), *read.finish().values]) == expected


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("jsonl", "pretty", "pretty has no record (pretty: 3 lines with no JSON object (first: '{'))"),
        ("json", "torn", "torn has no record (torn: no JSON)"),
        ("csv", "head", "head has no record"),
        ("csv", "cut*", "cut* has no record (cut*: 1 line with no row of the table (first: '1'))"),
        ("csv", "pipe", "pipe has no record (pipe: no regular file)"),
        ("json", "folder", "folder has no record (folder: Is a directory)"),
        (
            "tensorboard",
            "folder",
            "an event file in folder was not written (in the outputs: cut, fol",
        ),
        ("csv", "pretti", "pretti was not written (in the outputs: cut, folder, head, pipe, pretty, torn)"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, kind: str, name: str, reason: str) -> None:
    for file, text in (("pretty", '{\n"a": 1\n}'), ("torn", '{"a": 1'), ("head", "a,b\n"), ("cut", "a,b\n1\n")):
        (tmp_path / file).write_text(text)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert whole(tmp_path, {"m": {kind: name, "key": "a"}}).missing["m"].startswith(f"m: {reason}".rstrip("…, "))


def test_a_history_that_is_written_again_gives_only_what_is_new(tmp_path: Path) -> None:
    metrics = {"loss": {"json": "checkpoint-*/trainer_state.json", "key": "loss"}}
    read, history = reader(tmp_path, metrics), []
    for step in (9, 10, 11):
        history.append({"step": step, "loss": 1 / step})
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
        assert points(read.poll()) == [(step, 1 / step)]
    ended = read.finish()
    assert (ended.final, ended.notes, ended.closing) == ({"loss": 1 / 11}, [], ())


JSONL = "".join(json.dumps({"step": step, "a": step / 3, "é": "…"}) + "\n" for step in range(8)).encode() + b"torn"
TABLE = b"step,a,text\n" + "".join(f'{step},{step / 3},"ü\n{step}"\n' for step in range(8)).encode()
WRITTEN = {
    "jsonl": ("log", JSONL, {"jsonl": "log"}),
    "csv": ("log", TABLE, {"csv": "log"}),
    "events": (
        "events.out.tfevents.1",
        (EVENTS / "torch" / "events.out.tfevents.1").read_bytes(),
        {"tensorboard": ".", "key": "top1 (%)"},
    ),
}


@pytest.mark.parametrize("kind", WRITTEN)
@given(cuts=st.lists(st.floats(0, 1), max_size=6))
@settings(max_examples=25, deadline=None)
def test_pieces_of_a_file_give_what_the_whole_gives(
    kind: str, cuts: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, data, source = WRITTEN[kind]
    out = tmp_path_factory.mktemp("out")
    at = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
    found: list[Value] = []
    # Small enough that the image counts as a large event.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_files, "LARGEST_EVENT", 1000)
        patch.setattr(tails, "CHUNK", 100)
        read = reader(out, {"a": source})
        for begin, end in itertools.pairwise(at):
            with (out / name).open("ab") as file:
                file.write(data[begin:end])
            found += read.poll()
        ended = read.finish()
    found += ended.values
    expected = [(step, step / 3) for step in range(8)] if kind != "events" else [(0, 50.0), (10, 60.0), (20, 70.0)]
    assert points(found) == expected
    assert len(ended.notes) == (kind == "jsonl")


@pytest.mark.parametrize("how", ["cut", "replaced", "longer"])
def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path, how: str) -> None:
    file, read = tmp_path / "log", reader(tmp_path, {"a": {"jsonl": "log"}})

    def text(*steps: int, more: str = "") -> str:
        return "".join(f'{{"step": {step}, "a": {step}{more}}}\n' for step in steps)

    file.write_text(text(1, 2, 3) + '{"step": 4')
    assert points(read.poll()) == [(1, 1), (2, 2), (3, 3)]
    if how == "replaced":
        (tmp_path / "new").write_text(text(2, 3, 5))
        os.replace(tmp_path / "new", file)
    else:
        file.write_text(text(5) if how == "cut" else text(2, 3, 5, more=', "b": "and more than was there before"'))
    assert points(read.poll()) == [(5, 5)]
    assert not read.poll()
    ended = read.finish()
    assert (ended.values, ended.final, ended.notes) == ((), {"a": 5}, [])


def test_the_next_attempt_reports_what_the_last_one_did_not(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f'{{"step": {step}, "a": {step}}}\n' for step in (0, 1, 2, 1, 2, 3)))
    earlier = [Value("a", 0, 9.0), Value("a", 1, 1.0)]
    metrics = {"a": {"jsonl": "log", "take": "max"}}
    ended = whole(tmp_path, metrics, earlier)
    assert points(ended.values) == [(2, 2), (3, 3)]
    assert (ended.final, ended.closing) == ({"a": 9.0}, (Value("a", 4, 9.0),))
    assert ended.notes == ["a: 2 values at steps that do not grow are left out (first: step 1 after 2)"]
    (tmp_path / "log").unlink()
    assert whole(tmp_path, metrics, earlier).final == {"a": 9.0}


@pytest.mark.parametrize(("begin", "anew", "steps", "restored"), [(21, False, [31], 20), (1, True, [31], None)])
def test_where_an_attempt_has_gone_on(begin: int, anew: bool, steps: list[int], restored: int, tmp_path: Path) -> None:
    """Lines without steps are counted from the beginning by a program that begins there."""
    metrics = {"loss": {"stdout": r"step (?P<step>\d+) (?P<value>\S+)"}, "acc": {"stdout": "acc (.*)"}}
    earlier = [Value(name, step, 1.0) for step in (1, 11, 21) for name in ("loss", "acc")]
    read = MetricReader(parse_metrics(metrics, "metrics"), tmp_path, earlier, anew)
    read.begin()
    found = [value for step in range(begin, 32, 10) for value in read.line(f"step {step} 0.5")]
    found += [value for _ in range(23) for value in read.line("acc 0.5")]
    assert [value.step for value in found if value.name == "loss"] == steps and read.restored == restored
    assert [value.step for value in found if value.name == "acc"] == ([22] if anew else list(range(22, 45)))


def test_a_long_curve_is_thinned_and_its_result_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "FULL", 10)
    read = reader(tmp_path, {"a": {"stdout": "a(.*)", "take": "mean"}, "b": {"stdout": "b(.*)"}})
    found = [value for step in range(100) for value in read.line(f"a{step}\rb{step}")]
    steps = [value.step for value in found if value.name == "a"]
    assert steps == [*range(10), *range(11, 31, 2), *range(33, 73, 4), 77, 85, 93]
    ended = read.finish()
    assert (ended.final, ended.closing[1]) == ({"a": 49.5, "b": 99}, Value("b", 99, 99.0))


def test_a_line_without_end_takes_no_memory_and_hides_no_other(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        file.truncate(40 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"a": 1}\nnot JSON\n')
    read = reader(tmp_path, {"a": {"jsonl": "log"}})
    assert not read.poll(), "a look reads a part only"
    ended = read.finish()
    assert points(ended.values) == [(0, 1.0)]
    assert ended.notes == [
        "log: 1 line with no JSON object (first: 'not JSON')",
        "log: 1 line longer than 1 MiB left out",
    ]


def test_scalars_of_event_files_are_values_and_tensors(tmp_path: Path) -> None:
    assert whole(EVENTS, {"a": {"tensorboard": "torch", "key": "no_step"}}).final == {"a": 3.0}
    forms = [
        "half/content",
        "float/content",
        "double/content",
        "int/content",
        "float/listed",
        "double/listed",
        "int/listed",
    ]
    ended = whole(EVENTS, {"*": {"tensorboard": "t*s", "keys": [*forms, "float/vector"]}})
    assert list(ended.final.values()) == [5.0, 5.0, 5.0, 5.0, -1.5, -1.5, -2.0]
    assert {value.step for value in ended.values} == {1, 2**40}
    assert "none with key 'float/vector'; nearest 'float/" in ended.missing["float/vector"]
    data = bytearray((EVENTS / "tensors" / "events.out.tfevents.1").read_bytes())
    data[400:] = bytes(len(data) - 400)
    (tmp_path / "x.tfevents").write_bytes(data)
    assert "x.tfevents: damaged at byte" in whole(tmp_path, {"a": {"tensorboard": ".", "key": "int/listed"}}).notes[0]


PROGRAM = """
import mlflow
mlflow.log_metrics({"loss": 2.0, "bad": float("inf")}, step=3)
mlflow.log_metric("acc", 0.25)
mlflow.log_metric("acc", 0.5)
mlflow.log_text("kept", "note.txt")
mlflow.end_run()
mlflow.set_experiment("own")
with mlflow.start_run():
    mlflow.log_metrics({"val/loss": float("nan")}, step=4)
    mlflow.log_text("kept", "note.txt")
"""


def test_a_database_of_mlflow_is_read_as_it_grows_and_kept_between_attempts(tmp_path: Path) -> None:
    with tarfile.open(FROZEN_HOME) as archive:
        archive.extract("home/mlflow.db", tmp_path, filter="data")
    template, out = tmp_path / "home" / "mlflow.db", tmp_path / "out"
    env = prepare_mlflow(out, template)
    assert env["MLFLOW_TRACKING_URI"] == f"sqlite:///{out}/mlflow.db"
    with contextlib.closing(sqlite3.connect(out / "mlflow.db")) as database:
        places = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        assert places == [(f"file://{out}/mlartifacts/0",)]
        query = "SELECT step, value FROM metrics WHERE key = ? ORDER BY rowid"
        expected = database.execute(query, ("train/loss",)).fetchall()
        read = reader(out, {"loss": {"mlflow": "train/loss"}, "*": {"mlflow": True, "keys": ["late", "lat"]}})
        found = read.poll()
        assert expected and {(value.step, value.value) for value in found} <= set(expected)
        assert not read.poll()
        run = database.execute("SELECT run_uuid FROM runs").fetchone()[0]
        insert = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('late', ?, ?, ?, ?, ?)"
        for row in ((0.5, 1, run, 0, 0), (0.25, 2, run, 0, 0), (-sys.float_info.max, 3, run, 7, 0), (0, 4, run, 8, 1)):
            database.execute(insert, row)
        assert not read.poll(), "not committed"
        database.commit()
    assert points(read.poll())[:3] == [(0, 0.5), (1, 0.25), (7, -math.inf)]
    prepare_mlflow(out, template)
    ended = read.finish()
    assert math.isnan(ended.final["late"]) and ended.missing["lat"].endswith("none with key 'lat'; nearest 'late'")
    (out / "mlflow.db").write_bytes(b"no database, but long enough to look like one to SQLite" * 20)
    assert "MLflow's store cannot be read: file is not a database" in whole(out, {"a": {"mlflow": True}}).notes[0]


@pytest.mark.long
def test_mlflow_lands_in_a_store_below_the_outputs(tmp_path: Path) -> None:
    python, out, cwd = [sys.executable], tmp_path / "out", tmp_path / "cwd"
    cwd.mkdir()
    template = store_template(tmp_path / "cache", python, os.environ)
    before = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_RUN_ID": "0" * 32, "MLFLOW_EXPERIMENT_NAME": "x"}
    env = {**os.environ, **before, **prepare_mlflow(out, template)}
    metrics = {"*": {"mlflow": True, "keys": ["loss", "bad", "acc", "val/loss"]}, "absent": {"mlflow": "acc2"}}
    read = reader(out, metrics)
    assert not read.poll()
    subprocess.run([*python, "-c", PROGRAM], env=env, cwd=cwd, check=True, timeout=120)
    values = read.poll()
    assert values[:4] == [Value("loss", 3, 2.0), Value("bad", 3, math.inf), Value("acc", 0, 0.25), Value("acc", 1, 0.5)]
    ended = read.finish()
    assert ended.final["acc"] == 0.5 and math.isnan(ended.final["val/loss"]) and not ended.notes
    assert ended.missing == {
        "absent": "absent: MLflow's store mlflow.db has 5 records, none with key 'acc2'; nearest 'acc'"
    }
    assert not list(cwd.iterdir()) and len(list(out.rglob("note.txt"))) == 2
    assert template == store_template(tmp_path / "cache", python, os.environ)
    prepare_mlflow(out, template)
    assert whole(out, metrics).final["acc"] == 0.5, "a store of an earlier attempt is kept"


def test_an_interpreter_without_mlflow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a metric is read from MLflow, which is not installed for .*-S"):
        store_template(tmp_path, [sys.executable, "-S"], {})


def test_folders_of_mlflow_are_read_in_the_order_of_their_runs(tmp_path: Path) -> None:
    for run, start, lines in (("b", 1, "7 0.1 0\n8 nan 1\n"), ("a", 2, "9 0.3 1\n9 0.4 2\n")):
        folder = tmp_path / "mlruns" / "0" / run / "metrics" / "val"
        folder.mkdir(parents=True)
        (folder / "acc").write_text(lines)
        (folder.parents[1] / "meta.yaml").write_text(f"run_id: {run}\nstart_time: {start}\n")
    ended = whole(tmp_path, {"acc": {"mlflow": "val/acc"}})
    assert [value.step for value in ended.values] == [0, 1, 2] and ended.final == {"acc": 0.4}
