"""Trainers of other distributions: how they are found, and what is said of one that is not as it should be."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import MetadataPathFinder
from pathlib import Path
from typing import Any

import pytest
from installed import install

from ablative.study import installed_trainers
from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.trainers import Configurations, Metric, Request, Stage, Trainer

STUDY = """\
name: own
trainer: {trainer}
factors: {{size: {{small: {{size: 1}}, large: {{size: 2}}}}}}
baseline: {{size: small}}
"""
LOSS = Metric("fit/loss", "fit", better="lower")
FIT = Stage("fit", {"size": 1}, metrics=(LOSS,))
STAGES = (FIT,)


class Own(Trainer):
    """A trainer with one stage, of which tests change something."""

    name = "own"
    entry = "test_installed_trainers:execute"
    packages = ("test_installed_trainers",)

    def configurations(self, request: Request) -> Configurations:
        return OwnConfigurations()


class OwnConfigurations(Configurations):
    @property
    def metrics(self) -> Sequence[Metric]:
        return (LOSS,)

    def check_key(self, key: str, where: str) -> None:
        assert key == "size"

    def stages(self, choices: Any, values: Any) -> Sequence[Stage]:
        return tuple(replace(stage, config={**stage.config, **dict(values)}) for stage in STAGES)


OWN = Own()


class Foreign:
    """Has every method but one."""

    def __getattr__(self, name: str) -> Any:
        if name == "held_out":
            raise AttributeError(name)
        return getattr(OWN, name)


class Entryless(Trainer):
    name, packages = "entryless", ("x",)

    def configurations(self, request: Request) -> Configurations:
        return OwnConfigurations()


FOREIGN, ENTRYLESS = Foreign(), Entryless()
POINTS = {"own": "OWN", "foreign": "FOREIGN", "entryless": "ENTRYLESS", "kind": "Own", "other": "OWN", "gone": "GONE"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the path with a distribution whose trainers are the objects of this file."""
    points = {name: f"test_installed_trainers:{value}" for name, value in POINTS.items()}
    folder = install(tmp_path / "site", "own-trainers", points)
    (folder / "torn_trainer.py").write_text("import nothing_of_this_name\n")
    (folder / "leaving_trainer.py").write_text("raise SystemExit('a script\\nof two lines')\n")
    install(folder, "torn-trainer", {"torn": "torn_trainer:TRAINER", "leaving": "leaving_trainer:TRAINER"})
    monkeypatch.syspath_prepend(str(folder))
    installed_trainers.trainer.cache_clear()
    yield folder
    installed_trainers.trainer.cache_clear()


def plan(folder: Path, trainer: str = "own", more: str = "") -> Plan:
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "own.yaml").write_text(STUDY.format(trainer=trainer) + more)
    return make_plan("own", config_dir=str(folder), home=Home(folder / "home"))


def complaint(folder: Path, trainer: str = "own", more: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        plan(folder, trainer, more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_it_is_found_by_its_name_and_the_others_are_not_imported(site: Path, tmp_path: Path) -> None:
    assert list(installed_trainers.TRAINERS) == sorted({*POINTS, "clip", "program", "results", "torn", "leaving"})
    found = plan(tmp_path)
    assert [(task.stage, task.config) for task in found.tasks] == [("fit", {"size": 1}), ("fit", {"size": 2})]
    assert len(make_plan("demo", home=Home(tmp_path)).runs) == 32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("won", r"unknown trainer 'won'; did you mean 'own'\? .*; others come by entry point \(ablate.trainers\)"),
        (
            "torn",
            r"trainer 'torn' \(torn_trainer:TRAINER, of torn-trainer\) cannot be imported: ModuleNotFoundError: "
            "No module named 'nothing_of_this_name'",
        ),
        ("leaving", "trainer 'leaving' .* cannot be imported: SystemExit: a script of two lines"),
        ("gone", "trainer 'gone' .* cannot be imported: AttributeError: .*GONE"),
        ("foreign", "trainer 'foreign': Foreign lacks 'held_out'; study.trainers.Trainer, to inherit from, has"),
        ("entryless", "trainer 'entryless': Entryless lacks 'entry', which study.trainers.Trainer requires"),
        ("kind", r"trainer 'kind': Own is a class; the entry point names an object, such as one made by Own\(\)"),
        ("other", "trainer 'other': Own calls itself 'own'"),
    ],
)
def test_one_that_cannot_be_used(site: Path, tmp_path: Path, name: str, message: str) -> None:
    assert re.search(r"study/own.yaml(:\d+)?: " + message, complaint(tmp_path, name))


def test_two_of_one_name(site: Path, tmp_path: Path) -> None:
    install(site, "rival", {"own": "rival:TRAINER", "clip": "rival:TRAINER"})
    assert "trainer 'own' comes from own-trainers and from rival; uninstall all but one" in complaint(tmp_path)
    message = complaint(tmp_path, "clip")
    assert "trainer 'clip' comes from this program and from rival; uninstall all but one" in message
    shutil.copytree(site / "rival-1.0.dist-info", tmp_path / "again" / "rival-1.0.dist-info")
    assert list(installed_trainers.TRAINERS).count("own") == 1


def folder(site: Path, at: Path) -> Path:
    return site


def egg_info(site: Path, at: Path) -> Path:
    (site / "own_trainers-1.0.dist-info").rename(site / "own_trainers.EGG-INFO")
    (site / "own_trainers.EGG-INFO" / "METADATA").rename(site / "own_trainers.EGG-INFO" / "PKG-INFO")
    return site


def archive(site: Path, at: Path) -> Path:
    return Path(shutil.make_archive(str(at / "own"), "zip", site))


class Finder:
    """Finds distributions where the path has none."""

    def __init__(self, site: Path) -> None:
        self.site = site

    def find_spec(self, *_: object) -> None:
        return None

    def find_distributions(self, context: Any) -> Any:
        return MetadataPathFinder.find_distributions(type(context)(name=context.name, path=[str(self.site)]))


def finder(site: Path, at: Path) -> Path:
    sys.meta_path.insert(0, Finder(site))
    return at


@pytest.mark.parametrize("place", [folder, egg_info, archive, finder])
def test_where_importlib_finds_distributions_they_are_looked_for(
    place: Callable[[Path, Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = install(tmp_path / "site", "own-trainers", {"own": "test_installed_trainers:OWN"})
    install(site, "of-other-things", {"own": "nothing:AT_ALL"}, "console_scripts")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    assert "own" not in installed_trainers.TRAINERS
    monkeypatch.syspath_prepend(place(site, tmp_path))
    assert installed_trainers.TRAINERS.load("own") is OWN


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("entry", "module.function", "Own: entry is 'module.function'; expected module:function"),
        ("packages", "own", "Own: packages is 'own'; expected a tuple of names"),
        ("study_keys", None, "Own: study_keys is None; expected a tuple of names"),
        ("groups", (1,), r"Own: groups is \(1,\); expected a tuple of names"),
    ],
)
def test_an_attribute_that_is_nonsense(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, message: str
) -> None:
    monkeypatch.setattr(Own, attribute, value)
    assert re.search(f"trainer 'own': {message}", complaint(tmp_path))


ANSWERS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "load": (("fit", {}), None),
    "partial": (("fit", {}), None),
    "bind": (("fit", {}, {}, 0), None),
    "unread": (("fit", {}), ["size"]),
    "parameters": (("fit", {}), None),
    "changed": (("fit", {}, {}), None),
    "held_out": ((FIT, (), ""), "fit"),
    "work": (("fit", {}), 0),
    "operations": (("fit", {}, {}), float("nan")),
    "precision": (("fit", {}), "fp8"),
    "alike": (("fit", {}, {}), "same"),
    "meant_for_gpus": (("fit", {}), "yes"),
    "progress": (("fit", {}, ()), 0.5),
    "after_out_of_memory": (("fit", {}, 1), None),
    "started": ((None, {}), ["python", "fit.py"]),
    "resumption": (("fit", {}), True),
    "inputs": (("fit", {}), ["data"]),
    "extras": (("fit", {}), ["gpu"]),
    "archives": (("fit", {}, TaskPaths(Path())), "pictures"),
    "grace": (("fit", {}), -1.0),
    "check_watched": (({}, 1, ""), None),
    "check_cluster": (("fit", {}, None), None),
    "check_start": (("fit", {}, None), None),
    "check_stage": (("fit", {}, {}), None),
    "check_value": (("fit", {}, "size", 1), None),
    "configurations": ((None,), object()),
}
"""Method → arguments, and an answer that means nothing (None also for those that answer nothing)."""


def test_every_method_is_checked() -> None:
    methods = {name for name, value in vars(Trainer).items() if callable(value) and not name.startswith("_")}
    assert methods == ANSWERS.keys()


@pytest.mark.parametrize("method", ANSWERS)
def test_a_method_that_fails_or_answers_nonsense_is_named(
    site: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    arguments, answer = ANSWERS[method]

    def ask() -> None:
        installed_trainers.trainer.cache_clear()
        getattr(installed_trainers.trainer("own"), method)(*arguments)

    def fail(*args: Any) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(OWN, method, fail)
    with pytest.raises(
        ConfigError, match=rf"^trainer 'own': {method}\(\) failed: ZeroDivisionError: division by zero$"
    ):
        ask()
    if not method.startswith("check_"):
        monkeypatch.setattr(OWN, method, lambda *args: answer)
        with pytest.raises(ConfigError, match=rf"^trainer 'own': {method}\(\) returned "):
            ask()


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("stages", lambda *_: None, r"stages\(\) returned None; expected study.trainers.Stage objects"),
        ("stages", lambda *_: ["fit"], r"stages\(\) returned \['fit'\]; expected"),
        ("stages", lambda *_: int("x"), r"stages\(\) failed: ValueError"),
        ("metrics", property(lambda _: ("fit/loss",)), "metrics: 'fit/loss' is no study.trainers.Metric"),
        ("metrics", property(lambda _: None), r"metrics\(\) failed: TypeError"),
        (
            "metrics",
            property(lambda _: (LOSS, replace(LOSS, unit="s"))),
            "metric 'fit/loss' is declared twice, of stage 'fit' and of 'fit', and not alike",
        ),
        ("absent", property(lambda _: ["data"]), r"absent\(\) returned \['data'\]; expected a mapping"),
        ("check_key", lambda *_: int("x"), r"check_key\(\) failed: ValueError"),
        ("members", lambda *_: "fit/loss", r"members\(\) returned 'fit/loss'; expected a sequence of patterns"),
    ],
)
def test_configurations_that_fail_or_answer_nonsense(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, message: str
) -> None:
    monkeypatch.setattr(OwnConfigurations, attribute, value)
    more = "tables: {main: {rows: [size], columns: [{label: Loss, metric: fit/loss}]}}\n"
    assert re.search(f"trainer 'own': {message}", complaint(tmp_path, more=more))


def test_what_configurations_lack_is_named(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OWN, "configurations", lambda request: object())
    assert re.search(r"configurations\(\) returned <object .*>, which lacks 'metrics'", complaint(tmp_path))


SCORE = Stage("score", {}, needs=("fit",))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((replace(FIT, needs=("fit",)),), "stage 'fit' needs itself"),
        ((replace(FIT, needs=("score",)), SCORE), "stages fit, score need each other in a circle"),
        ((FIT, replace(SCORE, needs=("fti",))), "stage 'score' needs: unknown stage 'fti'; did you mean 'fit'?"),
        ((FIT, replace(SCORE, needs="fit")), "stage 'score': needs is 'fit'; expected a tuple of names"),
        ((FIT, replace(SCORE, seeded=False)), "stage 'score' is not seeded, but needs 'fit', which is"),
        ((FIT, FIT), "two stages are called 'fit'"),
        ((replace(FIT, seeded=False),), "stages() returned no stage that depends on the seed"),
        (
            (FIT, replace(SCORE, name="cost")),
            "a stage is called 'cost'; that name is kept for every task's cost",
        ),
        ((FIT, replace(SCORE, name="validation")), "a stage is called 'validation'; that name is kept for"),
        ((FIT, replace(SCORE, name="../score")), "a stage is called '../score'; letters, digits"),
        ((FIT, replace(SCORE, runtime={})), "stage 'score': runtime is {}; expected a RuntimeConfig"),
        ((FIT, replace(SCORE, metrics=(LOSS,))), "stage 'score' yields 'fit/loss', which is declared as one of 'fit'"),
        ((FIT, replace(SCORE, config={"x": object})), "the configuration of stage 'score' has no id: Object of type"),
        ((FIT, replace(SCORE, config={"x": float("inf")})), "the configuration of stage 'score' has no id: "),
    ],
)
def test_stages_that_are_no_graph(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: tuple[Stage, ...], message: str
) -> None:
    monkeypatch.setattr("test_installed_trainers.STAGES", stages)
    assert f"trainer 'own': {message}" in complaint(tmp_path)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Metric("fit/R@5", "fit"), "MLflow takes no '@' in a name; call it 'fit/R_5'"),
        (Metric("fit/top1%", "fit"), "MLflow takes no '%' in a name; call it 'fit/top1'"),
        (Metric("fit/größe (%)", "fit"), "MLflow takes no '%()' in a name; call it 'fit/größe'"),
        (Metric(f"fit/{'l' * 240}", "fit"), "244 characters; at most 239"),
        (Metric("loss", "fit"), "expected STAGE/NAME, with something between the slashes"),
        (Metric("fit//loss", "fit"), "expected STAGE/NAME"),
        (Metric("fit/loss", "fit", better="less"), "better is 'less'; expected 'higher', 'lower' or ''"),
        (Metric("fit/loss", "fit", low=1, high=0), "its bounds are 1 and 0"),
    ],
)
def test_metrics_that_cannot_be_kept(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: Metric, message: str
) -> None:
    monkeypatch.setattr("test_installed_trainers.STAGES", (replace(FIT, metrics=(metric,)),))
    found = complaint(tmp_path)
    assert f"trainer 'own': metric '{metric.name}': {message}" in found
    renamed = re.search("call it '(.*)'", found)
    if renamed:
        better: Callable[..., Metric] = Metric
        monkeypatch.setattr(
            "test_installed_trainers.STAGES", (replace(FIT, metrics=(better(renamed.group(1), "fit"),)),)
        )
        assert plan(tmp_path).tasks


def test_keys_of_another_trainer(site: Path, tmp_path: Path) -> None:
    message = complaint(tmp_path, more="protocols: [zero_shot]\n")
    assert "protocols: a key of the trainer 'clip', and this study's is 'own' (its own keys: none)" in message


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("{size: smal}", "from.size: unknown level 'smal'; did you mean 'small'?"),
        ("{sise: small}", "from: unknown factor 'sise'; did you mean 'size'?"),
        ("{size: large}", "from: 'large' would start from itself"),
    ],
)
def test_a_level_that_starts_from_what_there_is_not(site: Path, tmp_path: Path, named: str, message: str) -> None:
    (tmp_path / "study").mkdir()
    text = STUDY.format(trainer="own").replace("large: {size: 2}", f"large: {{size: 2, from: {named}}}")
    (tmp_path / "study" / "own.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        make_plan("own", config_dir=str(tmp_path), home=Home(tmp_path / "home"))
    assert f"study/own.yaml:3: factors.size.large.{message}" in str(caught.value)


def test_what_a_wanted_stage_needs_is_planned_through_others_too(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small cell has the last stage alone, and so what that rests on."""
    large = {"size": ["large"]}
    chain = (
        FIT,
        Stage("distil", {"size": 1}, needs=("fit",), where=large),
        Stage("prune", {"size": 1}, needs=("distil",), where=large),
        Stage("score", {"size": 1}, needs=("prune",)),
        Stage("draw", {"size": 1}, needs=("prune",), where=large),
    )
    monkeypatch.setattr(f"{__name__}.STAGES", chain)
    found = plan(tmp_path)
    stages = {size: [t.stage for t in found.of_cell({"size": size})] for size in ("small", "large")}
    assert stages == {"small": ["fit", "distil", "prune", "score"], "large": [stage.name for stage in chain]}
    order = [task.task_id for task in found.tasks]
    assert all(order.index(need) < order.index(task.task_id) for task in found.tasks for need in task.needs)
