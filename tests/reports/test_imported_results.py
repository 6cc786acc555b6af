"""Results that exist already, from source to page: what the documentation shows, MLflow's stores, other studies."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from services import PASSWORD, MlflowServer, postgres
from shared import empty_store

from ablative.reports.frames import curves, results
from ablative.reports.imports.mlflow_folder import FolderRuns
from ablative.study.cli import main
from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "existing_results.md").read_text()
BLOCKS = dict(re.findall(r"```(csv|yaml|bash)\n(.*?)```", PAGE, re.DOTALL))
COMMIT = "0123456789abcdef0123456789abcdef01234567"

Refused = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runs.csv").write_text(BLOCKS["csv"])
    (tmp_path / "paper.yaml").write_text(BLOCKS["yaml"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Message of a plan that is refused in one line, with exit code 2."""

    def call(*words: str) -> str:
        capsys.readouterr()
        try:
            code = main(["plan", *words], standalone=False)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        said = capsys.readouterr().err.strip()
        assert code == 2 and "\n" not in said, said
        return said

    return call


def dumped(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False)


def changed(folder: Path, name: str = "other", **keys: object) -> str:
    """Another study file: the documented one with other keys of `results`; None takes a key away."""
    data = yaml.safe_load((folder / "paper.yaml").read_text())
    top = {key: keys.pop(key) for key in ("seeds", "baseline", "claims", "tables") if key in keys}
    data["results"] = {key: value for key, value in (data["results"] | keys).items() if value is not None}
    data = {key: value for key, value in {**data, "name": name, **top}.items() if value is not None}
    (folder / f"{name}.yaml").write_text(dumped(data))
    return f"{name}.yaml"


def test_the_documented_study(folder: Path, call_ablate: Callable[..., str]) -> None:
    said = [call_ablate(folder / "home", *shlex.split(line, comments=True)[1:]) for line in BLOCKS["bash"].splitlines()]
    assert "7 of 8 runs of runs.csv are results of 4 cells." in said[0]
    assert "not finished (crashed) (runs.csv:8 (dry-oak-7))" in said[0] and "there is nothing to run" in said[0]
    assert "82.0 ± 1.4" in said[1] and "CLIP is better than MAE" in said[1]
    assert "runs.csv:2 (brave-fox-1)" in said[2] and "config.yaml" not in said[2]
    report = folder / "home" / "studies" / "paper" / "report"
    page = (report / "index.html").read_text()
    assert "runs.csv:2 (brave-fox-1)" in page and "7 of 8 runs" in page
    assert {path.suffix for path in (report / "figures").iterdir()} >= {".pdf", ".svg"}
    numbers = json.loads((report / "numbers.json").read_text())
    assert {task["origin"] for task in numbers["tasks"].values()} >= {"runs.csv:9 (dry-oak-8)"}
    assert not (folder / "home" / "runs").exists()
    frame = results("paper.yaml", home=folder / "home")
    assert len(frame) == 14 and set(frame["unit"]) == {"%", ""}


def test_seeds_that_the_study_asks_for(folder: Path, call_ablate: Callable[..., str]) -> None:
    """A seed that no run has is absent, and is no reason to run anything."""
    name = changed(folder, seeds=[0, 1, 2])
    shown = json.loads(call_ablate(folder / "home", "plan", name, "--json"))
    states = [task["state"] for task in shown["tasks"]]
    assert states.count("completed") == 7 and states.count("absent") == 5
    assert "absent" in call_ablate(folder / "home", "report", name, "--format", "md")
    call_ablate(folder / "home", "submit", name)
    assert not (folder / "home" / "runs").exists()


def test_runs_without_a_seed_are_numbered_and_not_paired(folder: Path, call_ablate: Callable[..., str]) -> None:
    name = changed(folder, seed=None)
    assert "the runs of each cell are numbered" in call_ablate(folder / "home", "plan", name)
    shown = call_ablate(folder / "home", "report", name, "--format", "md")
    assert "82.0 ± 1.4" in shown and "seed-paired" not in shown
    assert "seed-paired" in call_ablate(folder / "home", "report", "paper.yaml", "--format", "md")


def test_levels_by_condition_and_columns_of_the_source(folder: Path) -> None:
    """Without levels the cells are those that there are; a condition may use any column."""
    factors = {"method": "model", "depth": "layers"}
    none: dict[str, object] = dict.fromkeys(("baseline", "claims", "tables"))
    plan = make_plan(changed(folder, factors=factors, where="layers < 2 or model = 'clip'", **none))
    assert [tuple(cell.values()) for cell in plan.cells] == [("clip", "1"), ("clip", "2"), ("mae", "1")]
    depth = {"levels": {"deep": {"where": '"layers" >= 2'}, "flat": {"where": "layers = 1"}}}
    plan = make_plan(changed(folder, factors={"method": "model", "depth": depth}, **none))
    assert len(_of(plan, depth="deep")) == 4 and len(_of(plan, depth="flat")) == 3


def _of(plan: Plan, **levels: str) -> list[str]:
    """Places of the results of some cells."""
    assert plan.existing is not None
    tasks = [task for task in plan.tasks if levels.items() <= task.cells[0].items()]
    return [plan.existing.places[task.task_id] for task in tasks if plan.has(task.task_id)]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"seed": "sed"}, "results.seed: in runs.csv: unknown column 'sed'; did you mean 'seed'?"),
        ({"where": "modle = 'clip'"}, "results.where: unknown column 'modle'; did you mean 'model'?"),
        ({"where": "layers >"}, "results.where: Parser Error"),
        ({"where": "layers > 7"}, "results.where: fulfilled by none of 8 runs"),
        ({"csv": "run.csv"}, "results.csv: in .: unknown file 'run.csv'; did you mean 'runs.csv'?"),
        ({"metrics": {"test/acc": "State"}}, "column 'State' has 'finished', which is no number"),
        ({"metrics": {"acc": "val/acc"}}, "results.metrics.acc: expected two parts, as in test/acc"),
        ({"seed": "val_loss"}, "results.seed: runs.csv:2 (brave-fox-1): expected a whole number, found '1.20'"),
        ({"take": "lates"}, "results.take: unknown value 'lates'; did you mean 'latest'?"),
        ({"parquet": "runs.parquet"}, "expected one of mlflow, csv, parquet, study, found csv and parquet"),
        ({"experiment": "x"}, "results.experiment: belongs to 'mlflow', and these results are of 'csv'"),
        ({"factors": {"method": "model"}}, "baseline"),
        ({"factor": {}}, "results: unknown key 'factor'; did you mean 'factors'?"),
        ({"metrics": None}, "results.metrics: missing"),
    ],
)
def test_bad_input_is_one_line(folder: Path, refused: Refused, keys: dict[str, object], said: str) -> None:
    found = refused(changed(folder, **keys))
    assert said in found and found.startswith("ablate: other.yaml:")


def test_two_runs_of_one_cell_and_seed(folder: Path, refused: Refused) -> None:
    with (folder / "runs.csv").open("a") as file:
        file.write('"late-owl-9","finished","clip","2","0","0.79","1.3"\n')
    assert "2 runs for method=clip,depth=two seed=0: runs.csv:2 (brave-fox-1), runs.csv:10" in refused("paper.yaml")
    assert "runs.csv:10 (late-owl-9)" in _of(make_plan(changed(folder, take="latest")), method="clip", depth="two")
    assert "runs.csv:2 (brave-fox-1)" in _of(make_plan(changed(folder, take="best")), method="clip", depth="two")


def test_files_that_are_no_tables(folder: Path, refused: Refused) -> None:
    (folder / "runs.csv").write_bytes(b"a,b\n1,2\xff\n")
    assert "runs.csv: not UTF-8 text" in refused("paper.yaml")
    (folder / "runs.csv").write_text("a,b\n1,2,3\n")
    assert "runs.csv:2: 3 cells, and 2 columns" in refused("paper.yaml")
    (folder / "runs.csv").write_text("")
    assert "runs.csv: empty" in refused("paper.yaml")


def test_parquet_beside_csv(folder: Path) -> None:
    """Several sources, of which one has numbers as numbers and no words for its states."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"model": "vit", "layers": layers, "seed": seed, "acc": 0.5} for layers in (1, 2) for seed in (0, 1)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "more.parquet")
    data = yaml.safe_load((folder / "paper.yaml").read_text())
    acc = data["results"]["metrics"]["test/acc"] | {"key": "acc"}
    more = {key: value for key, value in data["results"].items() if key != "csv"}
    data["results"] = [data["results"], {**more, "parquet": "more.parquet", "metrics": {"test/acc": acc}}]
    (folder / "both.yaml").write_text(dumped(data))
    plan = make_plan("both.yaml")
    assert sorted(plan.study.factors["method"]) == ["clip", "mae", "vit"]
    assert _of(plan, method="vit", depth="one") == ["more.parquet:1", "more.parquet:2"]


MLFLOW = """
name: tracked
results:
  mlflow: store.db
  experiment: half a year
  factors: {method: params.model}
  seed: params.seed
  metrics: {test/acc: {key: metrics.val/acc, better: higher, unit: "%", scale: 100}}
tables:
  main: {rows: [method], columns: [{label: accuracy, metric: test/acc}]}
"""


def half_a_year(client: MlflowClient) -> None:
    """Four runs in the store of a client, one of which has failed."""
    experiment = client.create_experiment("half a year")
    for number, (model, seed) in enumerate((model, seed) for model in ("clip", "mae") for seed in (0, 1)):
        tags = [RunTag("mlflow.source.git.commit", COMMIT)]
        run = client.create_run(experiment, run_name=f"{model}-{seed}").info.run_id
        points = [Metric("val/acc", 0.5 + number / 10 + step / 100, 0, step) for step in (0, 1)]
        client.log_batch(run, points, [Param("model", model), Param("seed", str(seed))], tags)
        client.set_terminated(run, "FAILED" if number == 3 else "FINISHED")


@pytest.fixture
def tracked(folder: Path) -> Path:
    """An experiment that MLflow's own client has written, one run of which has failed."""
    shutil.copyfile(empty_store(), folder / "store.db")
    half_a_year(MlflowClient(f"sqlite:///{folder / 'store.db'}"))
    (folder / "tracked.yaml").write_text(MLFLOW)
    return folder


def test_an_experiment_of_mlflow(tracked: Path, call_ablate: Callable[..., str], refused: Refused) -> None:
    said = call_ablate(tracked / "home", "plan", "tracked.yaml")
    assert "3 of 4 runs of experiment half a year of store.db are results of 2 cells." in said
    assert "not finished (failed)" in said
    why = call_ablate(tracked / "home", "why", "tracked.yaml", "main", "clip", "accuracy")
    assert "56.0" in why and "run clip-0 (" in why and COMMIT[:10] in why
    frame = curves("tracked.yaml", "test/acc", home=tracked / "home")
    assert list(frame[frame.seed == 1]["value"]) == pytest.approx([60, 61])
    quoted = "metrics.`val/acc` > 0.65 and attributes.status = 'FINISHED' and params.model = 'mae'"
    assert _of(make_plan("tracked.yaml", [f'results.where="{quoted}"']))[0].startswith("run mae-0")
    assert "unknown experiment 'half'" in refused("tracked.yaml", "results.experiment=half")
    assert "did you mean 'params.seed'" in refused("tracked.yaml", "results.seed=params.sed")


@pytest.mark.long
def test_an_experiment_of_a_live_server_and_of_its_database(
    folder: Path, call_ablate: Callable[..., str], refused: Refused
) -> None:
    with postgres(folder / "postgres") as uri:
        server = MlflowServer(uri.replace("postgresql:", "postgresql+psycopg2:"), folder)
        server.start()
        half_a_year(MlflowClient(server.uri))
        for place in (server.uri, uri):
            (folder / "live.yaml").write_text(MLFLOW.replace("store.db", place).replace("tracked", "live"))
            said = call_ablate(folder / "home", "plan", "live.yaml")
            assert "3 of 4 runs of experiment half a year of " in said and PASSWORD not in said
            shown = call_ablate(folder / "home", "report", "live.yaml", "--format", "md")
            assert "56.0 ± 7.1" in shown
            frame = curves("live.yaml", "test/acc", home=folder / "home")
            assert list(frame[frame.seed == 1]["value"]) == pytest.approx([60, 61])
            assert "unknown experiment 'half'" in refused("live.yaml", "results.experiment=half")
        server.kill()
    (folder / "live.yaml").write_text(MLFLOW.replace("store.db", server.uri))
    assert server.uri in refused("live.yaml")


def test_a_folder_of_runs(folder: Path) -> None:
    """`mlruns` as MLflow wrote it: a file a value, metrics in folders of their own."""
    run = folder / "mlruns" / "7" / "aaaa1111"
    for path, text in {
        run.parent / "meta.yaml": "experiment_id: '7'\nname: half a year\nlifecycle_stage: active\n",
        run / "meta.yaml": "run_id: aaaa1111\nrun_name: fox\nstatus: 3\nstart_time: 5\nend_time: 9\n",
        run / "params" / "model": "clip",
        run / "params" / "seed": "0",
        run / "tags" / "mlflow.runName": "fox",
        run / "metrics" / "val" / "acc": "1 0.25 0\n2 nan 1\n3 0.5 2\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "tracked.yaml").write_text(MLFLOW.replace("store.db", "mlruns"))
    plan = make_plan("tracked.yaml")
    assert _of(plan) == ["run fox (aaaa1111) of experiment half a year"]
    points = FolderRuns(folder / "mlruns").points(["aaaa1111"], ["val/acc"])
    assert [(p.step, p.is_nan) for p in points] == [(0, False), (1, True), (2, False)]
    assert list(results("tracked.yaml")["value"]) == [50.0]


BESIDE = """
name: beside
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1]
results:
  csv: scores.csv
  factors: {method: loss}
  seed: seed
  metrics: {zero_shot/shapes_shape/top1: {key: acc, scale: 100}}
factors:
  method: {key: objective, levels: {contrastive: clip, both: mae_clip}}
protocols: [zero_shot]
tables: {main: {rows: [method], columns: [{label: shape, metric: zero_shot/shapes_shape/top1}]}}
"""


def test_beside_training_code_only_the_rest_is_run(folder: Path) -> None:
    (folder / "beside.yaml").write_text(BESIDE)
    (folder / "scores.csv").write_text("loss,seed,acc\nclip,0,0.3\nclip,1,0.35\nmae_clip,1,0.4\n")
    plan = make_plan("beside.yaml")
    plain = yaml.safe_load(BESIDE)
    del plain["results"]
    (folder / "plain.yaml").write_text(dumped(plain))
    assert [task.task_id for task in plan.tasks] == [task.task_id for task in make_plan("plain.yaml").tasks]
    left = [task.name for task in plan.tasks if not plan.has(task.task_id)]
    assert left == ["method=both seed=0", "method=both seed=0 [zero_shot]"]
    with_probe = make_plan("beside.yaml", ["protocols=[zero_shot,linear_probe]"])
    again = {task.stage for task in with_probe.tasks if not with_probe.has(task.task_id) and task.seed == 1}
    assert again == {"train", "linear_probe"}
    with pytest.raises(ConfigError, match=r"results\.metrics: unknown metric 'zero_shot/shapes_shap/top1'"):
        make_plan("beside.yaml", ["results.metrics={zero_shot/shapes_shap/top1: acc}"])


def _finish(plan: Plan, home: Path, value: Callable[[int], float]) -> None:
    """Records of all tasks of a plan, as if they had run in a home."""
    for place, task in enumerate(plan.tasks):
        paths = task.paths(Home(home))
        paths.record.parent.mkdir(parents=True, exist_ok=True)
        names = [name for name, metric in plan.declared.items() if metric.stage == task.stage and "shape/" in name]
        environment = {"commit": COMMIT, "dirty": False}
        record = {"state": "completed", "metrics": dict.fromkeys(names, value(place)), "environment": environment}
        paths.record.write_text(json.dumps(record))
    plan_file = Home(home).study(plan.study.name).plan
    plan_file.parent.mkdir(parents=True)
    plan_file.write_text(json.dumps(plan.to_json()))


def test_other_homes_and_other_studies(folder: Path, call_ablate: Callable[..., str], refused: Refused) -> None:
    data = yaml.safe_load(BESIDE)
    del data["results"]
    (folder / "first.yaml").write_text(dumped(data))
    _finish(make_plan("first.yaml"), folder / "anna", lambda place: 10.0 * place)
    (folder / "shared.yaml").write_text(dumped({**data, "name": "shared", "homes": ["anna"]}))
    plan = make_plan("shared.yaml")
    assert all(plan.has(task.task_id) for task in plan.tasks)
    why = call_ablate(folder / "home", "why", "shared.yaml", "main", "both", "shape")
    assert "both: shape = 65.0" in why and "in anna" in why and COMMIT[:10] in why
    assert "unknown home 'ana'; did you mean 'anna'?" in refused("shared.yaml", "homes=[ana]")
    text = {
        "name": "second",
        "results": {"study": "beside", "home": "anna", "metrics": ["zero_shot/shapes_shape/top1"]},
    }
    (folder / "second.yaml").write_text(dumped(text | {"tables": data["tables"]}))
    shown = call_ablate(folder / "home", "report", "second.yaml", "--format", "md")
    rows = [line.split()[:2] for line in shown.splitlines()]
    assert ["contrastive", "45.0"] in rows and ["both", "65.0"] in rows
    assert "unknown study 'besides'; did you mean 'beside'?" in refused("second.yaml", "results.study=besides")
