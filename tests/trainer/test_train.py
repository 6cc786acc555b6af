"""The training loop: the same run twice, interrupted, resumed, diverged."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from tiny_run import OBJECTIVES, make_config, make_home, write_run

from ablative.study.core.errors import DataError, Interrupted
from ablative.study.core.typed import load_config
from ablative.study.home.journal import Journal, metric_rows, read
from ablative.study.home.paths import Home, RunPaths
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip import train as train_module
from ablative.trainer.clip.checkpoint import load_system
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.train import TrainOutcome, pretrain
from ablative.trainer.clip.training_data import open_corpus


def never() -> bool:
    return False


def stop_after(steps: int) -> Callable[[], bool]:
    """Turns true when asked for the `steps`-th time: the loop asks after every step."""
    left = iter(range(steps - 1, -1, -1))
    return lambda: next(left) == 0


def train(home: Home, config: RunConfig, stop: Callable[[], bool] = never) -> TrainOutcome:
    """Train the run in `home`, starting or going on."""
    paths = home.run("aaaaaaaaaaaa")
    if not paths.root.exists():
        write_run(home, config)
    journal = Journal(paths.journal)
    try:
        return pretrain(paths, config, home, journal, stop)
    finally:
        journal.close()


def weights(home: Home) -> dict[str, torch.Tensor]:
    state = checkpoint.load(home.run("aaaaaaaaaaaa").model)
    assert state is not None
    return state["model"]


def rows(home: Home) -> list[tuple[str, int, float]]:
    """Metrics of training, without what they cost."""
    entries, _ = read(home.run("aaaaaaaaaaaa").journal)
    return [(name, step, value) for name, step, value, _ in metric_rows(entries) if name.startswith("train/")]


def events(home: Home) -> list[dict[str, Any]]:
    return [entry for entry in read(home.run("aaaaaaaaaaaa").journal)[0] if entry["kind"] == "event"]


def assert_same(left: Any, right: Any) -> None:
    """Bit-equal, through dictionaries and lists."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list):
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert left == right


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_same_configuration_gives_the_same_run(objective: str, tmp_path: Path) -> None:
    homes = [make_home(tmp_path / name) for name in ("a", "b")]
    for home in homes:
        assert train(home, make_config(objective)).divergence is None
    assert_same(weights(homes[0]), weights(homes[1]))
    assert rows(homes[0]) == rows(homes[1])


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    homes = [make_home(tmp_path / str(seed)) for seed in (0, 1)]
    for seed, home in enumerate(homes):
        train(home, make_config(seed=seed))
    name = "image_head.project.weight"
    assert not torch.equal(weights(homes[0])[name], weights(homes[1])[name])
    assert rows(homes[0]) != rows(homes[1])


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train(make_home(tmp_path), make_config(schedule__steps=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_stopped_and_resumed_at_every_step(tmp_path: Path) -> None:
    """The state after every step, model and optimiser and position, is that of a run never interrupted."""
    config = make_config("mae_clip similarity", schedule__steps=7)
    whole, broken = make_home(tmp_path / "whole"), make_home(tmp_path / "broken")
    train(whole, config)
    for step in range(1, 7):
        with pytest.raises(Interrupted, match=f"step {step} of 7"):
            train(broken, config, stop_after(1))
    train(broken, config)
    assert_same(weights(broken), weights(whole))
    assert rows(broken) == rows(whole)


def test_optimiser_and_random_state_survive_a_stop(tmp_path: Path) -> None:
    config = make_config(schedule__steps=7)
    once, twice = make_home(tmp_path / "once"), make_home(tmp_path / "twice")
    with pytest.raises(Interrupted):
        train(once, config, stop_after(5))
    for steps in (2, 3):
        with pytest.raises(Interrupted):
            train(twice, config, stop_after(steps))
    left, right = (checkpoint.load(home.run("aaaaaaaaaaaa").checkpoint) for home in (once, twice))
    assert left is not None and right is not None
    assert left.pop("spent")["seconds"] > 0 and right.pop("spent")["seconds"] > 0
    assert left["step"] == 5
    assert_same(left, right)


def train_until_killed(home: Home) -> None:
    """The life of a process that is to be killed."""
    train_module.CHECKPOINT_SHARE = 1.0  # as often as asked for, so that many a kill hits a checkpoint
    paths = home.run("aaaaaaaaaaaa")
    pretrain(paths, load_config(paths.config, RunConfig), home, Journal(paths.journal), never)


def run_until_killed(home: Home, delay: float) -> int | None:
    """Train in a process of its own, killed without warning `delay` seconds after its first step."""
    before = len(rows(home))
    victim = Forked(train_until_killed, home)
    deadline = time.monotonic() + 60
    while victim.process.is_alive() and len(rows(home)) <= before and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay)
    victim.process.kill()
    return victim.exitcode()


def test_killed_at_random_instants_and_resumed(tmp_path: Path) -> None:
    """kill -9 while stepping, journalling or checkpointing (almost always, here) leaves no trace in the result."""
    config = make_config(schedule__steps=100, runtime__checkpoint_seconds=0.001, runtime__log_every=3)
    whole, broken = make_home(tmp_path / "whole"), make_home(tmp_path / "broken")
    train(whole, config)
    write_run(broken, config)
    codes = [run_until_killed(broken, random.uniform(0, 0.3)) for _ in range(2)]
    assert -signal.SIGKILL in codes, "the runs ended before they could be killed"
    train(broken, config)
    assert [event for event in events(broken) if event["name"] == "checkpoint restored"]
    assert_same(weights(broken), weights(whole))
    assert rows(broken) == rows(whole), "rows are missing, doubled or different"


def test_damaged_checkpoint_starts_again(tmp_path: Path) -> None:
    config = make_config()
    whole, home = make_home(tmp_path / "whole"), make_home(tmp_path / "home")
    train(whole, config)
    with pytest.raises(Interrupted):
        train(home, config, stop_after(5))
    path = home.run("aaaaaaaaaaaa").checkpoint
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    train(home, config)
    assert "checkpoint corrupt" in [event["name"] for event in events(home)]
    assert_same(weights(home), weights(whole))
    assert rows(home) == rows(whole)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_full_disk(tmp_path: Path) -> None:
    """A checkpoint that cannot be written is an event; the final model has to be written."""
    homes = [make_home(tmp_path / name) for name in ("free", "tight", "full")]
    config = make_config(runtime__checkpoint_seconds=1e-6)
    train(homes[0], config)
    size = homes[0].run("aaaaaaaaaaaa").model.stat().st_size
    with file_limit(size + 1000):
        # The optimiser's state makes a checkpoint three times as large as the model.
        assert train(homes[1], config).step == 8
    assert_same(weights(homes[1]), weights(homes[0]))
    failed = [event for event in events(homes[1]) if event["name"] == "checkpoint failed"]
    assert failed and "File too large" in failed[0]["message"]
    with file_limit(size - 1000), pytest.raises(OSError, match="File too large"):
        train(homes[2], config)
    assert not list(homes[2].run("aaaaaaaaaaaa").checkpoints.iterdir())


def test_no_steps_saves_the_initialised_model(tmp_path: Path) -> None:
    config = make_config("clip", schedule__steps=0, schedule__warmup_steps=0)
    home = make_home(tmp_path)
    outcome = train(home, config)
    assert (outcome.step, outcome.divergence) == (0, None)
    system, tokenizer, found = load_system(home.run("aaaaaaaaaaaa"))
    assert found == config and not system.training and tokenizer.vocab_size <= config.model.vocab_size
    torch.manual_seed(config.seed)
    fresh = type(system)(config.model, config.objective, tokenizer.vocab_size)
    assert_same(dict(system.state_dict()), dict(fresh.state_dict()))


@pytest.mark.parametrize("every", [1, 7, 50])
def test_divergence_names_the_first_bad_step_whenever_it_looks(every: int, tmp_path: Path) -> None:
    config = make_config("mae", schedule__steps=50, schedule__lr=1e6, runtime__log_every=every)
    outcome = train(make_home(tmp_path), config)
    assert outcome.divergence is not None
    assert (outcome.divergence.step, outcome.divergence.culprit) == (2, "image loss")
    assert not (make_home(tmp_path).run("aaaaaaaaaaaa").model).exists()


def test_not_a_number_is_found_with_its_parameter(tmp_path: Path) -> None:
    outcome = train(make_home(tmp_path), make_config("clip", schedule__steps=20, schedule__lr=1e38))
    assert outcome.divergence is not None
    assert outcome.divergence.culprit in ("contrastive loss",) or "of" in outcome.divergence.culprit


def test_runs_on_the_same_captions_share_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path)
    fits: list[int] = []
    real = Tokenizer.fit
    monkeypatch.setattr(Tokenizer, "fit", lambda *args: fits.append(1) or real(*args))
    runs = [write_run(home, make_config(), run_id) for run_id in ("a", "b", "c")]
    first, second = (open_corpus(paths, make_config(), home)[1] for paths in runs[:2])
    assert len(fits) == 1 and first.fingerprint == second.fingerprint
    assert runs[0].tokenizer.read_bytes() == runs[1].tokenizer.read_bytes()
    other = open_corpus(runs[2], make_config(data__seed=1), home)[1]
    assert len(fits) == 2 and other.fingerprint != first.fingerprint


def test_data_that_is_not_what_was_planned(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data 'shapes' has changed: .* planned with 0123456789ab"):
        train(make_home(tmp_path), make_config(data__fingerprint="0123456789ab"))


def test_data_that_changes_between_attempts(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with pytest.raises(Interrupted):
        train(home, make_config(), stop_after(2))
    with pytest.raises(DataError, match="the run began on data"):
        train(home, make_config(data__seed=1))


def test_metrics_are_reported_every_few_steps_and_at_the_last(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    outcome = train(home, make_config("mae_clip", schedule__steps=8, runtime__log_every=3))
    every = rows(home)
    shares = [row for row in every if row[0].startswith("train/share/")]
    assert {name for name, _, _ in shares} == {f"train/share/{name}" for name in ("contrastive", "image", "text")}
    assert sorted({step for _, step, _ in shares}) == [1, 3, 5, 6, 8], "the first, and after each quarter"
    found = [row for row in every if row not in shares]
    assert sorted({step for _, step, _ in found}) == [3, 6, 8]
    names = {"loss", "contrastive", "image", "text", "logit_scale", "lr", "grad_norm"}
    assert {name for name, _, _ in found} == {f"train/{name}" for name in names}
    last = {name: value for name, step, value in found if step == 8}
    assert {name: outcome.metrics[name] for name in last} == last
    assert outcome.metrics["cost/seconds"] > 0 and outcome.metrics["cost/gpu_hours"] == 0.0
    params = [
        entry["values"]
        for entry in read(RunPaths(home.run("aaaaaaaaaaaa").root).journal)[0]
        if entry["kind"] == "params"
    ]
    assert all(params[0][name] for name in ("data.actual_fingerprint", "tokenizer.fingerprint"))


def test_training_lowers_every_loss(tmp_path: Path) -> None:
    """Sixteen pairs are soon learned by heart."""
    home = make_home(tmp_path)
    sizes = {"data__pairs": 16, "schedule__batch_size": 16, "model__width": 32, "model__embed_dim": 16}
    rates = {"schedule__steps": 60, "schedule__lr": 5e-3, "schedule__warmup_steps": 10, "objective__local_steps": 0}
    train(home, make_config(**sizes, **rates, model__pooling="gap"))
    for name, share in (("contrastive", 0.8), ("image", 0.995), ("text", 0.8)):
        values = [value for found, _, value in rows(home) if found == f"train/{name}"]
        assert sum(values[-10:]) < share * sum(values[4:14]), name
