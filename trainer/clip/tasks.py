"""The shipped trainer's tasks: pretraining, and the protocols that evaluate its model.

`execute` is what a job calls, wherever it runs (`trainer.runner.attempts`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace

# torch loads it at the first optimiser, which takes two seconds: a worker, which forks a process for each of its
# tasks, pays them once here.
import torch._dynamo  # noqa: F401

from ablative.study.core.errors import Interrupted
from ablative.study.core.typed import load_config
from ablative.study.home.failed_attempts import times_out_of_memory
from ablative.study.home.paths import RunPaths
from ablative.study.trainers import JobTask
from ablative.trainer.clip.evaluate import evaluate
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.halving import micro_batch
from ablative.trainer.clip.spec.metrics import TRAIN
from ablative.trainer.clip.train import pretrain
from ablative.trainer.runner.attempts import RunningTask, diverged_need, load, run_attempt
from ablative.trainer.runner.record import Result, Silent
from ablative.trainer.runner.task_log import say
from ablative.trainer.torch.devices import arithmetic, choose_device, hold
from ablative.trainer.torch.distributed import World
from ablative.trainer.torch.process_group import scheduled, team


def execute(job: JobTask) -> None:
    """Run the task to its end; where there is a record, it is done and nothing happens.

    Where a scheduler starts several processes for a pretraining, each of them makes this call and ends alike; rank 0
    alone writes. An evaluation is the work of one process, and the others return at once.

    Raises:
        Interrupted: stopped and saved; call again to go on.
        AblateError, OSError: the user's and the disk's problems; anything else is a fault of the code.
    """
    rendezvous = scheduled()
    if rendezvous is None or not rendezvous.world.rank:
        run_attempt(job, _pretrain if job.stage == TRAIN else _evaluate)
    elif job.stage == TRAIN and not job.paths.record.exists() and diverged_need(job) is None:
        _assist(job)


def _pretrain(task: RunningTask) -> Result:
    job, paths, halved = task.job, RunPaths(task.job.paths.root), times_out_of_memory(task.job.paths)
    config = _fitting(task.config, halved)
    if halved:
        task.journal.event("micro-batch halved", times=halved, micro_batch=config.runtime.micro_batch)

    def follow(world: World) -> None:
        # Rank 0 is interrupted at the same step and reports it.
        with suppress(Interrupted):
            pretrain(paths, config, job.home, Silent(), job.stop, world)

    def report(name: str, message: str) -> None:
        task.journal.event(name, message=message)

    with team(config.runtime, follow, report) as world:
        hold(task, choose_device(config.runtime.device), config.runtime.threads, world.size)
        outcome = pretrain(paths, config, job.home, task.journal, job.stop, world)
    size = outcome.division.size
    facts = {**({"micro_batch": size} if size else {}), **({"halvings": halved} if halved else {})}
    divergence = None if outcome.divergence is None else asdict(outcome.divergence)
    return Result(outcome.metrics, divergence, {"processes": world.size, **facts})


def _fitting(config: RunConfig, halved: int) -> RunConfig:
    """The configuration with the micro-batch and the memory that earlier attempts, which ran out of it, leave to this
    one."""
    if not halved:
        return config
    share = config.runtime.memory_share / 2.0**halved
    return replace(config, runtime=replace(config.runtime, micro_batch=micro_batch(config, halved), memory_share=share))


def _assist(job: JobTask) -> None:
    """A pretraining's other processes, where a scheduler has started them."""
    config = _fitting(load(job), times_out_of_memory(job.paths))
    with team(config.runtime, lambda _: None, lambda name, message: say(f"{name}: {message}")) as world:
        pretrain(RunPaths(job.paths.root), config, job.home, Silent(), job.stop, world)


def _evaluate(task: RunningTask) -> Result:
    """Evaluate a finished run, on the device that its configuration asks for."""
    job = task.job
    runtime = load_config(job.needs[TRAIN].config, RunConfig).runtime
    device = choose_device(runtime.device)
    hold(task, device, runtime.threads)
    with arithmetic(device, runtime.threads):
        return Result(evaluate(job.paths, task.config, job.home, device, task.journal, job.stop))
