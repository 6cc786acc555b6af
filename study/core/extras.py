"""Extras: the optional parts of the installation, which modules each brings, and the line that names a missing one."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from ablative.study.core.errors import AblateError


@dataclass(frozen=True)
class Extra:
    """One entry of `[project.optional-dependencies]` that a user may lack."""

    purpose: str
    """The extra in words, as in "this needs the … extra"."""
    modules: tuple[str, ...]
    """Top-level modules that its distributions install, and that the core does without."""


EXTRAS = {
    "clip": Extra("training", ("torch", "tokenizers", "safetensors", "sklearn")),
    "detection": Extra("detection", ("torchvision", "pycocotools")),
    "postgres": Extra("PostgreSQL", ("psycopg2",)),
}


class MissingExtraError(AblateError):
    """A command needs an extra that is not installed."""


def missing(extra: str) -> tuple[str, ...]:
    """Modules of an extra that this environment lacks; imports none of them."""
    return tuple(name for name in EXTRAS[extra].modules if importlib.util.find_spec(name) is None)


def require(extra: str) -> None:
    """Raise MissingExtraError unless every module of an extra is installed."""
    if missing(extra):
        raise MissingExtraError(sentence(extra))


def sentence(extra: str) -> str:
    """What is missing and what to install.

    >>> sentence("clip")
    "this needs the training extra: pip install '.[clip]' in the checkout of ablative"
    """
    return f"this needs the {EXTRAS[extra].purpose} extra: {install_command(extra)}"


def install_command(extra: str) -> str:
    """What installs an extra; the distribution is on no package index."""
    return f"pip install '.[{extra}]' in the checkout of ablative"


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error to show for an import that failed because an extra is missing; None where it failed otherwise.

    A package that is installed and lacks one of its modules is broken, not missing.
    """
    module = (error.name or "").partition(".")[0]
    extra = next((name for name in EXTRAS if module in missing(name)), None)
    return MissingExtraError(sentence(extra)) if extra is not None else None
