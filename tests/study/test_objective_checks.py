"""Objectives that cannot be trained are refused before anything is submitted."""

import dataclasses

import pytest
from small_models import MODEL

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.spec.checks import check_objective
from ablative.trainer.clip.spec.config import ObjectiveConfig


@pytest.mark.parametrize("name", ["mae", "m3ae"])
def test_similarity_masking_needs_a_contrastive_loss(name: str) -> None:
    with pytest.raises(ConfigError, match=f"objective.masking: similarity needs .* '{name}' has not"):
        check_objective(ObjectiveConfig(name=name, masking="similarity"), MODEL)
    check_objective(ObjectiveConfig(name="mae_clip", masking="similarity"), MODEL)


def test_something_must_be_hidden() -> None:
    """1 % of 16 patches rounds to one hidden patch, 0 % to none, and a single patch can never be hidden."""
    check_objective(ObjectiveConfig(name="mae", mask_ratio=0.01), MODEL)
    with pytest.raises(ConfigError, match=r"objective.mask_ratio: 0.0 hides none of an image's 16 patches"):
        check_objective(ObjectiveConfig(name="mae", mask_ratio=0.0), MODEL)
    with pytest.raises(ConfigError, match="1 patches"):
        check_objective(ObjectiveConfig(name="mae"), dataclasses.replace(MODEL, patch_size=32))
    check_objective(ObjectiveConfig(name="clip", mask_ratio=0.0), MODEL)
