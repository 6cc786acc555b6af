"""The table of recipes says what each objective reads: nothing else changes a run, and all of it does."""

from __future__ import annotations

import operator
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import MODEL, make_batch, make_config

from ablative.study.core.identity import flatten
from ablative.study.core.typed import with_values
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.loss_options import MaskConfig
from ablative.trainer.clip.spec.recipes import RECIPES, unread_keys
from ablative.trainer.clip.train import Training
from ablative.trainer.torch.devices import arithmetic

CPU = torch.device("cpu")
NAMES = (*RECIPES, "mae_clip similarity", "mae blocks")
OTHER: dict[str, Any] = {
    "objective.masking": "similarity", "objective.mask_ratio": 0.5, "objective.text_mask_ratio": 0.5,
    "objective.input_mask_ratio": 0.25, "objective.input_text_mask_ratio": 0.5, "objective.w_image": 0.3,
    "objective.w_text": 0.3, "objective.text_loss_norm": "token", "objective.include_pads": True,
    "objective.normalize_pixels": False, "objective.similarity_select": "low",
    "objective.similarity_reduce": "filip_max", "objective.similarity_noise": 10.0, "objective.temperature": 0.1,
    "objective.max_logit_scale": 2.0, "objective.local_steps": 2, "objective.local_batch": 8,
    "model.patch_size": 8, "model.width": 32, "model.depth": 2, "model.heads": 1, "model.stem": "conv",
    "model.text_width": 32, "model.text_depth": 2, "model.text_heads": 1, "model.context_length": 16,
    "model.embed_dim": 4, "model.mlp_ratio": 2.0, "model.pooling": "gap", "model.text_pooling": "gap",
    "model.map_heads": 1, "model.map_residual": True, "model.ln_after_pool": True, "model.decoder_width": 32,
    "objective.distill.weight": 2.0, "objective.distill.beta": 0.1, "objective.distill.reduce": "sum",
    "objective.distill.target_norm": "layer", "objective.distill.ema_start": 0.1, "objective.distill.ema_end": 0.3,
    "objective.simclr.weight": 2.0, "objective.simclr.hidden": 16, "objective.simclr.dim": 4,
    "objective.simclr.temperature": 0.5, "objective.views.crop_scale": 0.5, "objective.views.jitter": 0.0,
    "objective.views.brightness": 0.9, "objective.views.contrast": 0.9, "objective.views.saturation": 0.9,
    "objective.views.hue": 0.3, "objective.views.grey": 1.0, "objective.views.blur": 0.0,
    "objective.views.sigma_min": 1.5, "objective.views.sigma_max": 5.0, "objective.views.flip": 0.0,
    "model.decoder_depth": 2, "model.decoder_heads": 1, "model.init_std": 0.1, "model.class_token": True,
    "model.positions": "learned", "model.position_grid": 2, "model.drop_path": 0.5, "model.text_causal": True,
    "objective.hidden_patches": "mask_token", "objective.mask.shape": "blocks", "objective.mask.min_patches": 2,
    "objective.codes.weight": 2.0, "objective.codes.levels": (3, 7), "objective.codes.stride": 4,
    "objective.codes.width": 12, "objective.codes.blocks": 2,
    "objective.mask.max_patches": 4, "objective.mask.min_aspect": 0.9,
}  # fmt: skip
"""Key → another value than that of the run that it is compared with."""
NEEDED = {"objective.name", "model.name", "model.image_size", "model.vocab_size"}
"""Keys that every run needs as they are: images and tokens are given here."""
ELSEWHERE = {"model.start.path", "model.start.fingerprint", "model.start.pixels", "model.pool_class_token"}
ELSEWHERE |= {"objective.codes.path", "objective.codes.fingerprint"}
"""Keys that the loop reads before the first step, and one that is read where there is a class token."""
DECODER = {"model.decoder_width", "model.decoder_depth", "model.decoder_heads"}
EVALUATED = {
    "clip": DECODER,
    "masked_clip": DECODER,
    "simclr": DECODER | {"objective.views.crop_scale", "model.text_width", "model.context_length"},
    "clip_simclr": DECODER | {"objective.views.crop_scale"},
    "mae": {"model.pooling", "model.text_width", "model.context_length"},
    "mae blocks": {"model.pooling", "model.text_width", "model.context_length"},
    "m3ae": {"model.pooling"},
    "clip_beit": DECODER,
    "two_stage": {"model.pooling", "model.text_width", "model.context_length"},
}
"""Objective → keys that protocols alone read (they size the decoder of question answering, or pool features), or the
loader alone."""


class Given:
    """Tokenizer and pairs, as far as a training asks."""

    fingerprint, vocab_size = "f", MODEL.vocab_size


def config(name: str) -> RunConfig:
    mask = MaskConfig(shape="blocks" if name.endswith("blocks") else "patches", min_patches=4)
    changes = {"schedule__warmup_steps": 0, "schedule__lr": 0.01}
    return make_config(name, objective__local_steps=1, objective__mask=mask, **changes)


def changed(config: RunConfig, *keys: str) -> RunConfig:
    for key in keys:
        if key in OTHER:
            own = operator.attrgetter(key)(config)
            config = with_values(
                config, {key: {"token": "sample", "similarity": "random", "blocks": "patches"}.get(own, OTHER[key])}
            )
    return config


def result(config: RunConfig) -> dict[str, Any]:
    """Losses of two steps, and the weights after them."""
    with arithmetic(CPU, 1):
        training = Training(config, Given(), Given(), CPU)  # type: ignore[arg-type]
        found: dict[str, Any] = {}
        for step in range(2):
            training.advance(make_batch(8, step))
            found |= {f"{name} {step}": value for name, value in training.metrics().items() if "cost" not in name}
        teacher = {} if training.teacher is None else training.teacher.tower.state_dict()
        return found | training.system.state_dict() | {f"teacher {name}": value for name, value in teacher.items()}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return list(left) == list(right) and all(
        torch.equal(value, right[name]) if isinstance(value, torch.Tensor) else value == right[name]
        for name, value in left.items()
    )


def unread(config: RunConfig) -> set[str]:
    return set(unread_keys(config.objective))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_does_not_read_changes_nothing(name: str) -> None:
    run = config(name)
    assert same(result(changed(run, *unread(run))), result(run))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_reads_changes_the_run(name: str) -> None:
    run = config(name)
    keys = {f"{name}.{key}" for name in ("objective", "model") for key in flatten(getattr(run, name))}
    assert keys == OTHER.keys() | NEEDED | ELSEWHERE
    before = result(run)
    silent = {key for key in OTHER.keys() - unread(run) if same(result(changed(run, key)), before)}
    assert silent == EVALUATED.get(name, set())


def test_of_two_keys_that_are_easily_confused_the_other_is_named() -> None:
    assert (
        RECIPES["masked_clip"].unread_keys("random", "patches")["objective.mask_ratio"] == "objective.input_mask_ratio"
    )
    assert (
        RECIPES["m3ae"].unread_keys("random", "patches")["objective.input_text_mask_ratio"]
        == "objective.text_mask_ratio"
    )
    assert RECIPES["mae"].unread_keys("random", "patches")["objective.w_text"] == ""


def test_the_name_of_an_objective_is_read_by_the_table_and_by_error_texts_alone() -> None:
    """Whoever asks what an objective is asks its recipe."""
    allowed = re.compile(r"RECIPES\[objective\.name\]|'\{.*objective\.name\}'|^WEIGHTS = |^\"\"\"")
    readers = {
        path.name: line
        for path in (Path(__file__).parents[2] / "trainer").rglob("*.py")
        for line in path.read_text().splitlines()
        if "objective.name" in line and not allowed.search(line)
    }
    assert not readers
