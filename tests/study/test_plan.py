"""Plans: what is shared, what is identified, what an override or a folder of one's own changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import write_json
from ablative.study.core.identity import config_id
from ablative.study.core.typed import load_config, read_config
from ablative.study.home.paths import Home
from ablative.study.installed_trainers import conf_folders
from ablative.study.plan.last_words import other_words
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec.compose import Composer
from ablative.trainer.clip.spec.config import EvaluationConfig, RunConfig

(CONF,) = conf_folders()

STUDY: dict = {
    "name": "mine",
    "base": {"model": "tiny", "data": "shapes", "schedule": "demo"},
    "seeds": [0, 1],
    "factors": {
        "method": {"clip": {"objective": "clip"}, "mae": {"objective": "mae"}},
        "size": {"few": {"data.pairs": 500}, "many": {"data.pairs": 800}},
    },
    "baseline": {"method": "clip", "size": "many"},
    "protocols": ["zero_shot", "linear_probe"],
}


def write_study(folder: Path, **changes: object) -> str:
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "mine.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return str(folder)


def plan_of(folder: Path, overrides: tuple[str, ...] = (), **changes: object) -> Plan:
    return make_plan("mine", overrides, write_study(folder, **changes), Home(folder / "home"))


def test_every_task_is_identified_by_its_whole_configuration(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert len(plan.cells) == 4
    assert len(plan.runs) == 8
    assert all(config_id(task.config) == task.task_id for task in plan.tasks)
    assert len({task.task_id for task in plan.tasks}) == len(plan.tasks)


def test_the_baseline_comes_first_and_runs_before_evaluations(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert plan.tasks[0].cells == ({"method": "clip", "size": "many"},)
    kinds = [task.kind for task in plan.tasks]
    assert kinds == ["pretrain"] * 8 + ["evaluate"] * (4 * 2 + 4)  # MAE has no zero-shot


def test_cells_that_differ_in_a_later_stage_alone_share_a_run(tmp_path: Path) -> None:
    levels = {"short": {"protocol.linear_probe.epochs": 5}, "long": {"protocol.linear_probe.epochs": 40}}
    factors = {"method": {"clip": {"objective": "clip"}, "mae": {"objective": "mae"}}, "probe": levels}
    shared = plan_of(tmp_path, factors=factors, baseline={"method": "clip", "probe": "long"})
    assert all(len(run.cells) == 2 for run in shared.runs)
    for run in shared.runs:
        probes = [task for task in shared.tasks if task.stage == "linear_probe" and task.run_id == run.run_id]
        epochs = {cell["probe"]: task.config.protocol.epochs for task in probes for cell in task.cells}
        assert len(probes) == 2 and epochs == {"short": 5, "long": 40}
    (tmp_path / "protocol").mkdir()
    probe = yaml.safe_load((CONF / "protocol" / "linear_probe.yaml").read_text())
    other = yaml.safe_dump({**probe, "name": "linear_probe_long", "epochs": 40})
    (tmp_path / "protocol" / "linear_probe_long.yaml").write_text(other)
    plan = plan_of(tmp_path, protocols=["linear_probe", "linear_probe_long"])
    assert {"linear_probe/shapes_shape/top1", "linear_probe_long/shapes_shape/top1"} <= set(plan.metrics)


def test_a_protocol_may_say_for_which_cells_it_is(tmp_path: Path) -> None:
    whole = plan_of(tmp_path)
    part = plan_of(tmp_path, protocols={"zero_shot": {}, "linear_probe": {"size": "few"}})
    ids = {task.task_id for task in part.tasks}
    lacking = [task for task in whole.tasks if task.task_id not in ids]
    assert {(task.protocol, task.cells[0]["size"]) for task in lacking} == {("linear_probe", "many")}
    assert len(lacking) == 4 and ids < {task.task_id for task in whole.tasks}
    none = plan_of(tmp_path, ("protocols.linear_probe=null",), protocols={"zero_shot": {}, "linear_probe": {}})
    assert {task.protocol for task in none.tasks} == {None, "zero_shot"}


def test_one_configuration_under_two_names_is_run_once(tmp_path: Path) -> None:
    # The second factor's level repeats the value that the base has already.
    plan = plan_of(
        tmp_path,
        factors={"method": STUDY["factors"]["method"], "dim": {"default": {}, "same": {"model.embed_dim": 64}}},
        baseline={},
    )
    assert len(plan.cells) == 4
    assert len(plan.runs) == 2 * 2
    assert len(plan.runs[0].cells) == 2


def test_what_does_not_change_the_result_does_not_change_the_id(tmp_path: Path) -> None:
    ids = [task.task_id for task in plan_of(tmp_path).tasks]
    faster = plan_of(tmp_path, ("runtime.threads=2", "runtime.micro_batch=8", "data.max_broken=0.5"))
    assert [task.task_id for task in faster.tasks] == ids
    # An attempt that is still to come goes by what is said last; what made a result stays.
    for plan, threads in ((plan_of(tmp_path), 1), (faster, 2)):
        plan.write()
        paths = plan.tasks[0].paths(plan.home)
        assert read_config(paths.config)["runtime"]["threads"] == threads
    write_json(paths.record, {"state": "completed"})
    plan_of(tmp_path).write()
    assert read_config(paths.config)["runtime"]["threads"] == 2
    longer = plan_of(tmp_path, ("schedule.steps=241",))
    assert not set(ids) & {task.task_id for task in longer.tasks}


def test_a_changed_default_changes_the_id(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    source = (CONF / "model" / "tiny.yaml").read_text()
    ids = []
    for width in (64, 48):
        (tmp_path / "model" / "own.yaml").write_text(source.replace("embed_dim: 64", f"embed_dim: {width}"))
        ids.append({task.task_id for task in plan_of(tmp_path, ("model=own",)).runs})
    assert not ids[0] & ids[1]


def test_a_file_that_a_shipped_one_would_hide_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("name: tiny")
    with pytest.raises(ConfigError, match=r"tiny\.yaml: ablate ships a model of this name"):
        plan_of(tmp_path)


def test_overrides_reach_groups_keys_and_the_study_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ("model=small", "seeds=[5]", "schedule.lr=0.001", "protocol.linear_probe.epochs=3"))
    run = plan.runs[0].config
    assert isinstance(run, RunConfig)
    assert (run.model.width, run.schedule.lr, run.seed) == (192, 0.001, 5)
    probes = [task.config for task in plan.tasks if task.protocol == "linear_probe"]
    assert all(isinstance(probe, EvaluationConfig) and probe.protocol.epochs == 3 for probe in probes)


def test_written_configurations_read_back_as_they_were(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    plan.write()
    for task in plan.tasks:
        kind = RunConfig if task.kind == "pretrain" else EvaluationConfig
        assert load_config(task.paths(plan.home).config, kind) == task.config
    assert json.loads(plan.home.study("mine").plan.read_text()) == plan.to_json() | {"asked": plan.asked}


def test_a_later_field_keeps_old_ids_where_it_has_its_frozen_default() -> None:
    import dataclasses

    from ablative.study.core.typed import field

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Before:
        a: int = field(1)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class After:
        a: int = field(1)
        b: int = field(7, identity_default=3)

    assert config_id(Before()) == config_id(After(b=3))
    assert config_id(Before()) != config_id(After())


GOLDEN = Path(__file__).parent / "golden_ids.json"


def test_ids_given_earlier_are_the_ids_given_today(tmp_path: Path) -> None:
    """If this fails, every user's finished runs would be trained again: give a new field an `identity_default`."""
    plan = make_plan("demo", home=Home(tmp_path))
    found = {task.name: task.task_id for task in plan.tasks}
    assert found == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(
    ("overrides", "changes", "words"),
    [
        ((), {"factor": {}}, ["unknown key 'factor'", "did you mean 'factors'"]),
        ((), {"protocols": ["zero_shott"]}, ["unknown protocol 'zero_shott'", "did you mean 'zero_shot'"]),
        ((), {"protocols": ["segmentation"], "base": {"data": "openart"}}, ["'segmentation' has no evaluation set"]),
        ((), {"base": {"modle": "tiny"}}, ["unknown config group 'modle'", "did you mean 'model'"]),
        ((), {"base": {"model": "tinny"}}, ["unknown model 'tinny'", "did you mean 'tiny'"]),
        ((), {"protocols": {"linear_probe": {"methd": "clip"}}}, ["protocols.linear_probe: unknown factor 'methd'"]),
        ((), {"protocols": {"linear_probe": {"method": "clp"}}}, ["protocols.linear_probe", "did you mean 'clip'"]),
        ((), {"protocols": {"linear_probe": 3}}, ["protocols.linear_probe: expected factor: level"]),
        ((), {"protocols": 3}, ["expected a list of names (or name: levels of the cells), found 3"]),
        (
            (),
            {"tables": {"t": {"rows": ["method", ""], "columns": [{"metric": "train/loss"}]}}},
            ["tables.t: unknown factor ''"],
        ),
        (
            (),
            {"effects": {"e": {"factors": [""], "columns": [{"metric": "train/loss"}]}}},
            ["effects.e: unknown factor ''"],
        ),
        ((), {"seeds": [0, 0]}, ["a seed twice"]),
        ((), {"seeds": ["a"]}, ["seeds: expected whole numbers"]),
        ((), {"design": "latin"}, ["unknown design 'latin'"]),
        ((), {"factors": {"m": {True: {}}}}, ["put it in quotes"]),
        ((), {"factors": {"m": {"x": "clip"}}}, ["factors.m.x", "found 'clip'"]),
        ((), {"factors": {"m": {"x": {"model.poling": "gap"}}}, "baseline": {}}, ["m=x", "did you mean 'pooling'"]),
        ((), {"factors": {"m": {"x": {"modle.width": 8}}}, "baseline": {}}, ["unknown key 'modle.width'"]),
        ((), {"factors": {"m": {"x": {"mask": 8}}}, "baseline": {}}, ["unknown key 'mask'"]),
        ((), {"factors": {"m": {"x": {"objective": "clipp"}}}, "baseline": {}}, ["unknown objective 'clipp'"]),
        (("objective.mask_ratio=1.5",), {}, ["objective.mask_ratio: 1.5", "less than 1"]),
        (("objective.mask_ratio=1",), {}, ["objective.mask_ratio: 1.0", "less than 1"]),
        (("model.width=wide",), {}, ["model.width: expected a whole number, found 'wide'"]),
        (("model.heads=7",), {}, ["model.heads: 7 does not divide model.width (64)"]),
        (("model.patch_size=7",), {}, ["model.patch_size: 7 does not divide model.image_size (32)"]),
        (
            ("model.patch_size=6", "model.image_size=36", "model.stem=conv"),
            {},
            ["patch_size: 6 is not a power of two"],
        ),
        (("schedule.batch_size=640",), {"seeds": [0]}, ["batch_size: 640 is larger than data.pairs (500)"]),
        (("schedule.warmup_steps=400",), {}, ["warmup_steps: 400 is more than schedule.steps (240)"]),
        (("objective.local_batch=5",), {}, ["local_batch: 5 does not divide"]),
        (("data.pairs=900",), {}, ["'data.pairs'", "a factor of the study sets this key"]),
        (("model.widht=9",), {}, ["unknown key 'widht'", "did you mean 'width'"]),
        (("stepps=9",), {}, ["unknown key 'stepps'"]),
        (("nonsense",), {}, ["expected key=value"]),
        (("model.width=8,16",), {}, ["sweeps are a study's factors"]),
        (
            (),
            {"tables": {"t": {"rows": ["method"], "columns": [{"metric": "zero_shot/shapes_shape/top2"}]}}},
            ["tables.t", "unknown metric 'zero_shot/shapes_shape/top2'", "did you mean 'zero_shot/shapes_shape/top"],
        ),
        ((), {"tables": {"t": {"rows": ["methd"], "columns": [{"metric": "train/loss"}]}}}, ["unknown factor 'methd'"]),
        ((), {"figures": {"f": {"kind": "bars", "metric": "train/loss", "x": "siz"}}}, ["did you mean 'size'"]),
        (("suite.datasets.digits.templates=imagnet",), {}, ["unknown templates 'imagnet'", "did you mean 'imagenet'"]),
        (
            ("protocol.vqa.epochs=1",),
            {"protocols": ["vqa_paper"], "base": {"data": "shapes", "suite": "mini"}},
            ["override: protocol.vqa.epochs: unknown protocol of the study 'vqa'", "(allowed: vqa_paper)"],
        ),
        (("protocol.linear_prob.epochs=1",), {}, ["unknown protocol of the study", "did you mean 'linear_probe'"]),
        (
            (),
            {"factors": {"m": {"x": {"protocol.panels.lr": 1}}}, "baseline": {}},
            ["factors: protocol.panels.lr: unknown protocol of the study 'panels'"],
        ),
        (("protocol.zero_shot.prompt='a {b}'",), {}, ["template 'a {b}'", "{} for the class name"]),
        (
            ("protocol.segmentation.prompt='a photo of a dog'",),
            {"protocols": ["segmentation"]},
            ["protocol.segmentation.prompt: 'a photo of a dog' gives every class the same text", "'a photo of {a} {}'"],
        ),
        (
            ("protocol.linear_probe_bn.epochs=10",),
            {"protocols": ["linear_probe_bn"]},
            ["protocol.linear_probe_bn.warmup_epochs: 10 of 10 epochs leave none", "expected 0 to 9"],
        ),
        (("suite.datasets.digits.bins=4",), {}, ["suite.datasets.digits.bins: 4, but kind 'digits'", "clip_benchmark"]),
        (
            ("suite.datasets.digits={kind: clip_benchmark, bins: 1}",),
            {},
            ["suite.datasets.digits.bins: 1 leaves nothing to tell apart"],
        ),
        ((), {"tables": {"t": {"rows": ["method"], "columns": [{"metric": "train/loss"}]}}}, ["stands for several"]),
        ((), {"figures": {"f": {"kind": "bars", "metric": "train/loss", "x": "size"}}}, ["use method as x, hue"]),
        ((), {"figures": {"f": {"kind": "bar", "metric": "train/loss"}}}, ["did you mean 'bars'"]),
    ],
)
def test_bad_input_is_one_clear_error(
    tmp_path: Path, overrides: tuple[str, ...], changes: dict, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        plan_of(tmp_path, overrides, **changes)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_broken_yaml_and_duplicate_keys_are_named(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    for text, word in (("a: [", "flow"), ("name: x\nname: y\n", "duplicate key name")):
        (tmp_path / "study" / "mine.yaml").write_text(text)
        with pytest.raises(ConfigError, match=word):
            make_plan("mine", config_dir=str(tmp_path), home=Home(tmp_path))


def test_what_hydra_composes_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def width(name: str = "own", *more: str) -> object:
        return Composer(str(folder), conf_folders()).tree((("model", name),), more)["model"]["embed_dim"]

    def kept() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ablate" / "trees").glob("*")}

    folder = tmp_path / "config"
    (folder / "model").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = [kept()]
    for written in (64, 48):
        # Without `_self_`, only Hydra says what goes before what.
        (folder / "model" / "own.yaml").write_text(f"defaults: [tiny]\nembed_dim: {written}\n")
        for _ in range(2):
            assert width() == written
            before.append(kept())
    assert [len(found) for found in before] == [0, 1, 1, 2, 2]
    assert before[1] == before[2] and before[3] == before[4]  # nothing was written for what was known
    folder = folder.rename(tmp_path / "moved")
    assert width() == 48 and kept() == before[4]
    # What the files of a home say is no configuration; a group may be a link.
    (folder / "ablate_home").mkdir()
    for name in ("identity", "config.yaml"):
        (folder / "ablate_home" / name).write_text("model: own")
    assert width() == 48 and kept() == before[4]
    (folder / "model").rename(tmp_path / "models")
    (folder / "model").symlink_to(tmp_path / "models")
    assert width() == 48 and kept() == before[4]
    (tmp_path / "models" / "own.yaml").write_text("defaults: [tiny]\nembed_dim: 24\n")
    assert width() == 24
    (tmp_path / "models" / "own.yaml").write_text("defaults: [tiny]\nembed_dim: 48\n")
    for path in (tmp_path / "ablate" / "trees").glob("*"):
        path.write_text("{torn")
    assert width() == 48
    # What a variable says is no file's.
    (folder / "model" / "varied.yaml").write_text("defaults: [tiny]\nembed_dim: ${oc.decode:${oc.env:WIDTH}}\n")
    for said in ("16", "32"):
        monkeypatch.setenv("WIDTH", said)
        assert width("varied") == int(said)
        assert width("own", "model.embed_dim=${oc.env:WIDTH}") == said
    (tmp_path / "file").touch()
    for place in ("/proc/none", str(tmp_path / "file")):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert width() == 48


def test_the_words_of_the_last_run_are_remembered(tmp_path: Path) -> None:
    last = plan_of(tmp_path, ("seeds=[0]", "title=Größe 2", "runtime.threads=1"))
    assert other_words(last, "report") == ""  # nothing was submitted
    last.write()
    assert other_words(plan_of(tmp_path, ("title=Größe 2", "seeds=[0]")), "report") == ""
    words = f"'title=Größe 2' runtime.threads=1 --config-dir {tmp_path}"
    assert other_words(plan_of(tmp_path), "report") == (
        f"mine was last run with 'seeds=[0]' 'title=Größe 2'; for its results: ablate report mine 'seeds=[0]' {words}"
    )
    plan_of(tmp_path).write()
    narrowed = plan_of(tmp_path, ("factors.size=[many]",))
    assert other_words(narrowed, "report").startswith("mine was last run with no words; for its results: ablate report")
    assert "; for its tasks: ablate cancel --all mine" in other_words(narrowed, "cancel --all", "its tasks")


def test_two_files_of_one_name_are_refused_in_one_home(tmp_path: Path) -> None:
    """While the first of them is there, under whatever file name; a copy, a moved file and a shipped study are none."""
    home = Home(tmp_path / "home")
    one, two = (tmp_path / name for name in ("one.yaml", "two.yaml"))
    one.write_text(yaml.safe_dump({**STUDY, "name": "same"}))
    make_plan(str(one), (), None, home).write()
    two.write_text(one.read_text())
    make_plan(str(two), (), None, home)
    two.write_text(one.read_text().replace("500", "600"))
    for name in ("one.yaml", "old.yaml"):
        one = one.rename(tmp_path / name)
        with pytest.raises(ConfigError, match=rf"two\.yaml: the study 'same' .* is that of .*/{name}; give"):
            make_plan(str(two), (), None, home)
        make_plan(str(one), (), None, home)
    one.unlink()
    make_plan(str(two), (), None, home).write()  # the only file of the name
    one.write_text(two.read_text().replace("600", "700"))
    with pytest.raises(ConfigError, match=r"is that of .*/two\.yaml"):
        make_plan(str(one), (), None, home)
    two.write_text(two.read_text().replace("same", "other"))
    plan = make_plan(str(one), (), None, home)
    one.unlink()
    plan.write()  # a search goes on while its file is renamed
