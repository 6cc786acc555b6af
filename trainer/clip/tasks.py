"""One task from its directory: configuration in, journal and record out.

`execute` is what a job calls, wherever it runs. Everything that it knows is in the task's directory, so calling
it again after any kind of death goes on where the last attempt was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

# torch loads it at the first optimiser, which takes two seconds: a worker, which forks a process for each of its
# tasks, pays them once here.
import torch._dynamo  # noqa: F401

from ablative.study.core.errors import DataError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.identity import flatten
from ablative.study.core.secrets import redact
from ablative.study.core.typed import load_config
from ablative.study.costs.history import facts
from ablative.study.home.attempt_times import START_EVENTS
from ablative.study.home.failed_attempts import halvings
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import Home, RunPaths, TaskPaths
from ablative.trainer.clip.evaluate import evaluate
from ablative.trainer.clip.spec.config import EvaluationConfig, RunConfig, micro_batch
from ablative.trainer.clip.train import Interrupted, pretrain
from ablative.trainer.runner.environment import arithmetic, choose_device, code
from ablative.trainer.runner.record import AttemptTotals, Result, Silent, attempt_totals, record
from ablative.trainer.runner.usage_tags import begin, settle
from ablative.trainer.torch.distributed import World
from ablative.trainer.torch.divergence import Divergence
from ablative.trainer.torch.process_group import scheduled, team

Config = TypeVar("Config", RunConfig, EvaluationConfig)

__all__ = ["Interrupted", "execute"]


def execute(kind: str, root: Path, home: Home, stop: Callable[[], bool]) -> None:
    """Run the task in `root` to its end; where there is a record, it is done and nothing happens.

    Where a scheduler starts several processes for a pretraining, each of them makes this call and ends alike; rank 0
    alone writes. An evaluation is the work of one process, and the others return at once.

    Args:
        kind: "pretrain" or "evaluate".
        root: the task's directory, with its `config.yaml`; the caller holds its lease.
        stop: asked after every step, or every data set; true saves and raises Interrupted.

    Raises:
        Interrupted: stopped and saved; call again to go on.
        AblateError, OSError: the user's and the disk's problems; anything else is a fault of the code.
    """
    assert kind in ("pretrain", "evaluate"), kind
    paths = TaskPaths(root)
    rendezvous = scheduled()
    if rendezvous is not None and rendezvous.world.rank:
        if kind == "pretrain" and not paths.record.exists():
            _assist(RunPaths(root), home, stop)
        return
    if not paths.record.exists():
        journal = Journal(paths.journal)
        try:
            _attempt(kind, paths, home, journal, stop)
        finally:
            journal.close()
    # Only now: until there is a record, the next attempt needs it.
    (RunPaths(root).checkpoint if kind == "pretrain" else paths.scores).unlink(missing_ok=True)


def _attempt(kind: str, paths: TaskPaths, home: Home, journal: Journal, stop: Callable[[], bool]) -> None:
    """One attempt: opening event, the work, closing event, record."""
    past = attempt_totals(read(paths.journal)[0])
    since = time.time()
    journal.event(START_EVENTS[past.attempts > 0], attempt=past.attempts + 1)
    journal.tags(code())
    try:
        if kind == "pretrain":
            run = _config(paths, RunConfig, journal, past)
            result = _pretrain(RunPaths(paths.root), run, home, journal, stop)
            alike = facts(run, run.model)
        else:
            config = _config(paths, EvaluationConfig, journal, past)
            result = _evaluate(paths, config, home, journal, stop)
            alike = facts(config, load_config(home.run(config.run_id).config, RunConfig).model)
    except Interrupted as stopped:
        journal.event("interrupted", message=str(stopped))
        settle(paths, journal)
        raise
    except Exception as error:
        # A full disk must not put its own complaint in place of the first one.
        with suppress(OSError):
            journal.event("failed", type=type(error).__name__, message=redact(str(error)))
            settle(paths, journal)
        raise
    journal.event(result.state, **(asdict(result.divergence) if result.divergence else {}))
    end = time.time()
    spent = replace(
        past,
        attempts=past.attempts + 1,
        seconds=past.seconds + end - since,
        started=past.started or since,
    )
    accounts = {"spent": settle(paths, journal), "alike": alike}
    write_json(paths.record, record(kind, paths.root.name, result, spent, end) | accounts)


def _config(paths: TaskPaths, kind: type[Config], journal: Journal, past: AttemptTotals) -> Config:
    """The task's configuration, reported to the journal unless an earlier attempt did."""
    config = load_config(paths.config, kind)
    if not past.configured:
        journal.params(flatten(config))
    return config


def _pretrain(paths: RunPaths, config: RunConfig, home: Home, journal: Journal, stop: Callable[[], bool]) -> Result:
    halved = halvings(paths)
    config = _fitting(config, halved)
    if halved:
        journal.event("micro-batch halved", times=halved, micro_batch=config.runtime.micro_batch)

    def follow(world: World) -> None:
        # Rank 0 is interrupted at the same step and reports it.
        with suppress(Interrupted):
            pretrain(paths, config, home, Silent(), stop, world)

    with team(config.runtime, follow) as world:
        begin(journal, choose_device(config.runtime.device), config.runtime.threads, world.size)
        outcome = pretrain(paths, config, home, journal, stop, world)
    device = choose_device(config.runtime.device)
    return Result(outcome.metrics, device, outcome.divergence, world.size, halved, config.runtime.micro_batch)


def _fitting(config: RunConfig, halved: int) -> RunConfig:
    """The configuration with the micro-batch that earlier attempts, which ran out of memory, leave to this one."""
    if not halved:
        return config
    return replace(config, runtime=replace(config.runtime, micro_batch=micro_batch(config, halved)))


def _assist(paths: RunPaths, home: Home, stop: Callable[[], bool]) -> None:
    """A pretraining's other processes, where a scheduler has started them."""
    config = _fitting(load_config(paths.config, RunConfig), halvings(paths))
    with team(config.runtime, lambda _: None) as world:
        pretrain(paths, config, home, Silent(), stop, world)


def _evaluate(
    paths: TaskPaths, config: EvaluationConfig, home: Home, journal: Journal, stop: Callable[[], bool]
) -> Result:
    """Evaluate a finished run; one that diverged has no model, so its evaluations have no metrics either."""
    run = home.run(config.run_id)
    trained = read_json(run.record)
    if trained is None:
        raise DataError(f"run {config.run_id} is not finished; train it before evaluating it")
    runtime = load_config(run.config, RunConfig).runtime
    device = choose_device(runtime.device)
    begin(journal, device, runtime.threads)
    if trained["state"] == "diverged":
        return Result({}, device, Divergence(**trained["diverged"]))
    with arithmetic(device, runtime.threads):
        return Result(evaluate(paths, config, home, device, journal, stop), device)
