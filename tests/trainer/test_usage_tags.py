"""What a task's record and tags tell of its cost, over attempts that end in every way."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import job, make_config, make_home, write_run

from ablative.study.core.errors import ConfigError, Interrupted
from ablative.study.core.files import read_json
from ablative.study.costs.history import facts
from ablative.study.costs.usage import TaskUsage
from ablative.study.home.journal import read
from ablative.study.home.paths import RunPaths
from ablative.trainer.clip.plugin.trainer import TRAINER
from ablative.trainer.clip.tasks import execute


def tags(paths: RunPaths) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in read(paths.journal)[0]:
        if entry["kind"] == "tags":
            found |= entry["values"]
    return found


def wasted(paths: RunPaths) -> float:
    return float(tags(paths)["ablate.seconds_wasted"])


def spent(paths: RunPaths) -> float:
    return float(tags(paths)["ablate.seconds"])


def test_an_undisturbed_run_wastes_nothing(tmp_path: Path) -> None:
    home, config = make_home(tmp_path), make_config("clip", schedule__steps=2)
    paths = write_run(home, config)
    execute(job(paths, home))
    record = read_json(paths.record)
    assert record["spent"] == {"wasted": 0.0, "gpus": 0, "cores": 1} and wasted(paths) == 0.0
    assert 0 < spent(paths) <= record["seconds"] + 0.002
    assert tags(paths)["ablate.gpus"] == "0" and tags(paths)["ablate.device"] == record["environment"]["device"]
    assert record["alike"] == facts(TRAINER, "train", config, {})
    assert TaskUsage.of(record).seconds == record["seconds"]


def test_what_was_saved_is_not_lost_what_was_not_is(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    paths = write_run(home, make_config("clip"))
    with pytest.raises(Interrupted):
        execute(job(paths, home, lambda: True))
    assert wasted(paths) == 0.0
    first = spent(paths)
    # Its checkpoint is gone: the second attempt begins at the beginning.
    paths.checkpoint.unlink()
    execute(job(paths, home))
    assert 0 < first <= wasted(paths) < spent(paths)
    assert read_json(paths.record)["spent"]["wasted"] == pytest.approx(wasted(paths), abs=0.002)


def test_a_run_that_diverges_or_fails_is_all_waste(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    diverged = write_run(home, make_config("mae_clip", schedule__lr=1e38))
    execute(job(diverged, home))
    assert wasted(diverged) == spent(diverged) > 0
    failing = write_run(home, make_config("clip"), "cccccccccccc")
    failing.config.write_text(failing.config.read_text().replace("patch_size", "pach_size"))
    with pytest.raises(ConfigError):
        execute(job(failing, home))
    assert wasted(failing) == spent(failing)
