"""What the keys of a program are for, by their names: the seed, the folder for outputs, steps, resumption, factors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablative.trainer.program.proposal.found_program import Found
from ablative.trainer.program.words import Plain

SEEDS = ("seed", "random_seed", "manual_seed", "rng_seed", "random_state")
OUTS = (
    *("out", "out_dir", "outdir", "output_dir", "output", "output_path", "save_dir", "savedir", "save_path", "save"),
    *("result_dir", "results_dir", "run_dir", "exp_dir", "work_dir", "workdir", "checkpoint_dir", "ckpt_dir"),
    *("default_root_dir", "log_dir", "logdir", "logs"),
)
STEPS = (
    *("max_iters", "max_steps", "num_steps", "steps", "iterations", "iters", "max_epochs", "num_epochs", "epochs"),
    *("num_train_epochs", "n_epochs", "total_steps"),
)
RESUMES = ("resume", "init_from", "resume_from", "resume_from_checkpoint", "resume_path", "load_checkpoint", "restore")
UNHASHED = r"(num_)?workers|device|verbose|quiet|debug|log_\w+|print_\w+|wandb\w*|tensorboard|num_threads|local_rank"
PLAUSIBLE = (
    *(
        "learning_rate",
        "lr",
        "dropout",
        "weight_decay",
        "width",
        "depth",
        "n_layer",
        "num_layers",
        "hidden",
        "optimizer",
    ),
    *(
        "hidden_size",
        "n_head",
        "num_heads",
        "model",
        "arch",
        "alpha",
        "penalty",
        "batch_size",
        "temperature",
        "momentum",
    ),
)
"""Keys that ablations are about, the first before all others."""
_NO_FACTOR = (
    r".*(path|dir|file|name|url|host|port|interval|every|freq|iter|epoch|step|worker|eval|dtype|backend|compile).*"
)
MOST_FACTORS = 3


@dataclass(frozen=True)
class Factor:
    """A key and two values of it."""

    key: str
    levels: tuple[Plain, ...]
    group: bool = False
    """A config group of Hydra, whose levels are its options."""


@dataclass(frozen=True)
class Roles:
    """Keys by what they are for; empty: the program has none."""

    seed: str
    out: str
    steps: str
    resume: str
    unhashed: tuple[str, ...]
    factors: tuple[Factor, ...]


def roles(found: Found) -> Roles:
    """What each key of a program is for."""
    keys = list(found.values)
    seed, out, steps = _first(keys, SEEDS), _first(keys, OUTS), _first(keys, STEPS)
    resume = _first(keys, RESUMES)
    unhashed = tuple(key for key in keys if re.fullmatch(UNHASHED, _plain(key)))
    groups = [Factor(group, tuple(options[:2]), True) for group, options in found.groups.items()]
    taken = {seed, out, steps, resume, *unhashed, *_set_by(found.words)}
    left = [key for key in keys if key not in taken and key.split(".")[0] not in found.groups]
    proposed = sorted(
        (key for key in left if not re.fullmatch(_NO_FACTOR, _plain(key)) and _levels(found, key)),
        key=lambda key: _rank(found, key),
    )
    factors = [*groups, *(Factor(key, _levels(found, key)) for key in proposed)]
    return Roles(seed, out, steps, resume, unhashed, tuple(factors[:MOST_FACTORS]))


def _plain(key: str) -> str:
    return key.rpartition(".")[2].lower().replace("-", "_")


def _first(keys: Sequence[str], names: Iterable[str]) -> str:
    """The key whose last part is the earliest of these names."""
    known = {_plain(key): key for key in reversed(keys)}
    return next((known[name] for name in names if name in known), "")


def _set_by(words: Iterable[str]) -> set[str]:
    """Keys that the words of a command line set."""
    return {word.lstrip("-").partition("=")[0].replace("-", "_") for word in words if "=" in word or word[:1] == "-"}


def _rank(found: Found, key: str) -> float:
    name, value = _plain(key), found.values[key]
    if name in PLAUSIBLE:
        return PLAUSIBLE.index(name)
    option = found.options.get(key)
    if option is not None and option.choices:
        return 100
    return 101 if isinstance(value, bool) else 102 if isinstance(value, float) else 103


def _levels(found: Found, key: str) -> tuple[Plain, ...]:
    """Two values of a key, its default first; empty: none are known."""
    value, option = found.values[key], found.options.get(key)
    if option is not None and option.choices:
        others = [choice for choice in option.choices if choice != value]
        return (option.choices[0] if value is None else value, others[-1]) if len(option.choices) > 1 else ()
    if option is not None and option.kind in ("list", "count", "constant"):
        return ()
    if isinstance(value, bool):
        return (value, not value)
    if isinstance(value, int):
        return (value, 2 * value if value else 1)
    if isinstance(value, float):
        return (value, 0.1 if not value else float(f"{value * (0.5 if value > 0.5 else 2):.3g}"))
    return ()
