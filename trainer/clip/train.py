"""The training loop: one run, from its initialisation or its checkpoint to its final model.

A run is a function of its configuration alone. Its position is one number, the step: the order of the data is a
function of (seed, epoch), the masks of (seed, step), the learning rate of the step. Killed at any instant and
started again, it ends bit-identical on a CPU (within rounding on a GPU) to a run that was never interrupted.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ablative.study.core.errors import AblateError, DataError, Interrupted
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home, RunPaths
from ablative.trainer.clip import checkpoint
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.data.pairs.loader import Loader
from ablative.trainer.clip.data.pairs.pairs import Pairs
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.micro_batches import Division, by_length
from ablative.trainer.clip.models.flops import train_flops
from ablative.trainer.clip.models.towers import trim_padding
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.teacher import CodeTeacher
from ablative.trainer.clip.parent_weights import learn_from, start_from
from ablative.trainer.clip.published_weights import codes_from_file, start_from_file
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.recipes import RUN, TOKENIZER, recipe_of
from ablative.trainer.clip.step import TrainStep
from ablative.trainer.clip.step_memory import make_division
from ablative.trainer.clip.token_ids import PAD
from ablative.trainer.clip.training_data import open_corpus
from ablative.trainer.clip.validation import ValidationWatch
from ablative.trainer.runner.task_log import say
from ablative.trainer.torch.devices import arithmetic, choose_device
from ablative.trainer.torch.distributed import ALONE, World
from ablative.trainer.torch.divergence import Divergence, bad_parameter
from ablative.trainer.torch.meter import ElapsedCost, Meter, utilisation

CHECKPOINT_SHARE = 0.05
"""Checkpoints take at most this share of the time, however slow the file system: then they are rarer."""


@dataclass(frozen=True)
class TrainOutcome:
    """How a training ended."""

    step: int
    """Optimiser steps done."""
    divergence: Divergence | None
    metrics: dict[str, float]
    """`train/…` of the last step and `cost/…` of the whole run."""
    division: Division
    """How rank 0 divided its rows of a batch."""


def pretrain(
    paths: RunPaths,
    config: RunConfig,
    home: Home,
    journal: Journal,
    stop: Callable[[], bool],
    world: World = ALONE,
) -> TrainOutcome:
    """Train the run to its end and write its final model.

    Args:
        paths: the run's files; the caller holds the run's lease.
        journal: of rank 0; the other processes' reports go nowhere.
        stop: asked after every step; true in any process saves a checkpoint and raises Interrupted in all.
        world: the processes that train the run, each of which makes this call.

    Raises:
        DataError: data that changed or is too broken to train on.
        OSError: the final model (or the journal) cannot be written.
        PeerLostError: another process is gone.
    """
    device = world.device(choose_device(config.runtime.device))
    if world.rank == 0:
        checkpoint.remove_leftovers(paths)
    cuda = [device] if device.type == "cuda" else []
    with arithmetic(device, config.runtime.threads), torch.random.fork_rng(devices=cuda):
        with world.first():
            pairs, tokenizer = open_corpus(paths, config, home)
        journal.params({"data.actual_fingerprint": pairs.fingerprint, "tokenizer.fingerprint": tokenizer.fingerprint})
        training = Training(config, tokenizer, pairs, device, world)
        if world.rank == 0 and training.division.size:
            say(training.division.describe(len(range(config.schedule.batch_size)[training.update.rows])))
        if not _resume(training, paths, journal):
            for line in _begin(training, home, tokenizer, journal):
                if world.rank == 0:
                    say(line)
        saver = Saver(paths, journal, config.runtime.checkpoint_seconds)
        validation = ValidationWatch(paths, config, home, tokenizer, device)
        with _quiet_collector():
            outcome = _loop(
                training, _loader(config, pairs, tokenizer, world, device), saver, validation, journal, stop
            )
        if outcome.divergence is None and world.rank == 0:
            checkpoint.save(paths.model, {"model": training.system.state_dict(), "step": outcome.step})
        world.wait()
    return outcome


def _loop(
    training: Training,
    loader: Loader,
    saver: Saver,
    validation: ValidationWatch,
    journal: Journal,
    stop: Callable[[], bool],
) -> TrainOutcome:
    """Steps from the training's position to the last; reports every `log_every` of them and the last."""
    steps, every = training.config.schedule.steps, training.config.runtime.log_every
    world = training.world
    metrics: dict[str, float] = {}
    divergence = None
    known = 0
    with closing(loader.batches(training.step, steps - training.step)) as batches:
        for batch in batches:
            training.advance(batch)
            # A signal in one process, or the clock of rank 0, has to take effect in all processes after the same step.
            flags = stop(), world.rank == 0 and saver.due(), loader.broken > known
            asked, due, broken = _exchanged(training, *flags)
            last = training.step == steps
            report = last or training.step % every == 0
            save = not last and (asked or due)
            if broken:
                known = _share_broken(loader, world)
            # Also before saving: a run resumed from a diverged state could not say at which step it diverged.
            divergence = training.update.watch.verdict() if report or save else None
            if report or save or divergence is not None:
                for step, shares in training.update.shares.taken():
                    journal.metrics(step, shares)
            if report or divergence is not None:
                metrics = training.metrics()
                journal.metrics(training.step, metrics)
            if divergence is not None:
                break
            if not last and world.rank == 0 and validation.due(training.step):
                journal.metrics(training.step, validation.metrics(training.system))
            if save:
                saver.save(training)
            if asked and not last:
                raise Interrupted(f"stopped after step {training.step} of {steps}")
    divergence = divergence or bad_parameter(training.system, training.step)
    metrics = training.cost() | metrics | training.update.shares.latest
    journal.metrics(training.step, metrics)
    return TrainOutcome(training.step, divergence, metrics, training.division)


def _exchanged(training: Training, *flags: bool) -> list[bool]:
    """Whether any process has set each flag; between two exchanges none counts as set."""
    if training.world.size > 1 and training.step % training.config.runtime.flags_every:
        return [False] * len(flags)
    return training.world.any(*flags)


def _share_broken(loader: Loader, world: World) -> int:
    """Let every process know of the unreadable samples that any has met; how many there are."""
    for reasons in world.collect(loader.reasons):
        loader.learn(reasons)
    return loader.broken


class Training:
    """Model, optimiser and position of one run: what a checkpoint holds."""

    def __init__(
        self, config: RunConfig, tokenizer: Tokenizer, pairs: Pairs, device: torch.device, world: World = ALONE
    ) -> None:
        self.config = config
        self.device = device
        self.world = world
        self.vocab_size = tokenizer.vocab_size
        self.fingerprints = {"data": pairs.fingerprint, "tokenizer": tokenizer.fingerprint}
        torch.manual_seed(config.seed)
        self.system = System(config.model, config.objective, tokenizer.vocab_size).to(device).train()
        self.division = make_division(config, tokenizer.vocab_size, device, world)
        self.update = TrainStep(self.system, config, device, world, self.division)
        self.teacher = self.update.gradients.teacher
        self.step = 0
        self._tokens = torch.zeros(1, 1, dtype=torch.int64)
        self.meter = Meter(ElapsedCost(), device, world)

    def advance(self, batch: Batch) -> None:
        """Train on this process's rows of the batch of the current step, and move to the next."""
        self.update(self.step, batch)
        self.step += 1
        self._tokens = batch.tokens

    def metrics(self) -> dict[str, float]:
        """`train/…` of the last step, and the throughput so far; waits for the device."""
        values = self.update.metrics()
        return values | {"cost/samples_per_second": self.samples / self.meter.seconds}

    def cost(self) -> dict[str, float]:
        """`cost/…` of the whole run; utilisation of GPUs whose peak is known, at their mean throughput."""
        values = self.meter.cost()
        if self.device.type == "cuda" and self.samples:
            flops = self.samples * self._sample_flops() / (values["cost/gpu_hours"] * 3600)
            share = utilisation(flops, self.config.schedule.precision, torch.cuda.get_device_name(self.device))
            if share is not None:
                values["cost/flops_utilisation"] = share
        return values

    @property
    def samples(self) -> int:
        return self.step * self.config.schedule.batch_size

    def _sample_flops(self) -> float:
        """Mean FLOPs of training on one sample, with captions and micro-batches as in the last batch."""
        config, total = self.config, 0.0
        for places in by_length(self._tokens, self.division.size or len(self._tokens)):
            tokens = trim_padding(self._tokens[places])
            length = float((tokens != PAD).sum(1).float().mean())
            sample = train_flops(config.model, config.objective, length, tokens.shape[1], self.vocab_size)
            total += len(tokens) * sample
        return total / len(self._tokens)

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, the same on any number of processes; all have to ask."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "step": self.step,
            "model": self.system.state_dict(),
            "optimizer": self.update.optimizer.state_dict(),
            **({} if self.teacher is None else {"teacher": self.teacher.tower.state_dict()}),
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "fingerprints": self.fingerprints,
            "spent": asdict(self.meter.elapsed()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; raises DataError when it was reached on other data."""
        if state["fingerprints"] != self.fingerprints:
            raise DataError(
                f"the run began on data {state['fingerprints']} and finds {self.fingerprints} now; "
                "restore the data, or delete the run and train it again"
            )
        self.system.load_state_dict(state["model"])
        if self.teacher is not None:
            self.teacher.tower.load_state_dict(state["teacher"])
        self.update.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        self.step = state["step"]
        self.meter = Meter(ElapsedCost(**state["spent"]), self.device, self.world)


def _begin(training: Training, home: Home, tokenizer: Tokenizer, journal: Journal) -> Iterator[str]:
    """Take over what the run begins with of published weights or another run; lines for the log."""
    config, system, teacher = training.config, training.system, training.teacher
    if config.model.start.path:
        yield start_from_file(system, config.model, home, journal)
    if isinstance(teacher, CodeTeacher) and config.objective.codes.path:
        yield codes_from_file(teacher, config.objective, home, journal)
        return
    if config.parent and teacher is not None and system.recipe.teacher in (RUN, TOKENIZER):
        yield learn_from(teacher, home.run(config.parent), journal)
        return
    if config.parent:
        yield start_from(system, tokenizer, home.run(config.parent), journal)
    if teacher is not None and (config.parent or config.model.start.path):
        teacher.begin(system.image)


def _resume(training: Training, paths: RunPaths, journal: Journal) -> bool:
    """Restore the last checkpoint; without one, or with a damaged one, the run starts from its beginning: False."""
    state = None
    try:
        state = checkpoint.load(paths.checkpoint)
    except checkpoint.CorruptError as error:
        journal.event("checkpoint corrupt", message=str(error))
    if state is not None:
        training.restore(state)
        journal.event("checkpoint restored", step=training.step)
    steps = training.world.collect(training.step)
    if len(set(steps)) > 1:
        raise AblateError(
            f"the processes of the run read different checkpoints (of steps {steps}); is {paths.root} the same folder "
            "on all of their machines?"
        )
    return state is not None


class Saver:
    """Writes a checkpoint when it is time; one that fails is an event, and the training goes on."""

    def __init__(self, paths: RunPaths, journal: Journal, seconds: float) -> None:
        self._path = paths.checkpoint
        self._journal = journal
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def save(self, training: Training) -> None:
        start = time.monotonic()
        state = training.state()
        try:
            if training.world.rank == 0:
                checkpoint.save(self._path, state)
        except OSError as error:
            # The disk may be free again by the next time; until then the older checkpoint remains.
            self._journal.event("checkpoint failed", step=training.step, message=str(error))
        end = time.monotonic()
        self._next = end + max(self._seconds, (end - start) / CHECKPOINT_SHARE)
        # A process that ends before the state is written might take the others with it.
        training.world.wait()


def _loader(config: RunConfig, pairs: Pairs, tokenizer: Tokenizer, world: World, device: torch.device) -> Loader:
    return Loader(
        pairs,
        tokenizer,
        batch_size=config.schedule.batch_size,
        image_size=config.model.image_size,
        seed=config.seed,
        crop_scale=config.schedule.crop_scale,
        workers=config.runtime.workers,
        max_broken=config.data.max_broken,
        rows=world.rows(config.schedule.batch_size),
        pinned=device.type == "cuda",
        views=(config.objective.views.crop_scale,) * recipe_of(config.objective).views,
    )


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Keep the garbage collector from walking over the model and the libraries again and again (torchtitan)."""
    # Without collecting first: that would also copy every page that a worker's forked process shares with it.
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
