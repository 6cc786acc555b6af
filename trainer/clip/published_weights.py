"""Weights in files: those of an image tower under the names of timm's vision transformers, from which a run starts, and
those of a tokenizer of images, whose codes it predicts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ablative.study.core.errors import DataError
from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home
from ablative.trainer.clip.checkpoint import UNREADABLE
from ablative.trainer.clip.data.texts import find_content, unchanged
from ablative.trainer.clip.models.towers import ImageTower
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.teacher import CodeTeacher
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig
from ablative.trainer.clip.spec.fingerprints import ContentFile

CONTAINERS = ("model", "state_dict")
"""Where checkpoints of DeiT and MAE, and of SLIP, keep the weights."""
STEM = "patch_embed.proj.weight"
"""Every vision transformer has it: what is before it in the name is before all names of the tower."""
HEADS = re.compile(r"(head|decoder_\w+)\.|mask_token$|decoder_pos_embed$")
"""Parts that are left: classes of ImageNet, MAE's decoder."""
PARTS = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "norm2": "norm2",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.out",
}
"""Part of a block under timm's name → under ours."""
BLOCK = re.compile(rf"blocks\.(\d+)\.({'|'.join(map(re.escape, PARTS))})\.(weight|bias)")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = {"imagenet": IMAGENET, "half": ((0.5,) * 3, (0.5,) * 3)}
"""`model.start.pixels` → mean and deviation of red, green and blue."""


def start_from_file(system: System, model: ModelConfig, home: Home, journal: Journal) -> str:
    """Replace the weights of a system's image tower by published ones; a line for the log.

    Raises:
        AbsentDataError: there is no such file.
        DataError: the file has changed, is no file of weights, or has weights of another tower.
    """
    source = ContentFile.weights(model)
    unchanged(source, model.start.fingerprint, home)
    path = find_content(source)
    found, left = tower_weights(read_weights(path), model.start.pixels, str(path))
    own = system.image.state_dict()
    _check(found, system.image, str(path))
    with torch.no_grad():
        for name, weight in found.items():
            own[name].copy_(weight)
    journal.event("started from file", path=str(path), left=left)
    return f"starts from the image tower in {path}; {len(left)} other weights there are left"


def codes_from_file(teacher: CodeTeacher, objective: ObjectiveConfig, home: Home, journal: Journal) -> str:
    """Take the tokenizer of images in a file as the teacher; a line for the log.

    Raises:
        AbsentDataError: there is no such file.
        DataError: the file has changed, is no file of weights, or has those of no tokenizer or of one of another shape.
    """
    source = ContentFile.tokenizer(objective)
    unchanged(source, objective.codes.fingerprint, home)
    path, part = find_content(source), f"{teacher.part}."
    state, own = read_weights(path), teacher.tower.state_dict()
    found = {name.removeprefix(part): weight for name, weight in state.items() if name.startswith(part)} or state
    strange, lacking = ([name for name in one if name not in other] for one, other in ((found, own), (own, found)))
    for names, fault in ((strange, "have no place in"), (lacking, "are lacking there and belong to")):
        if names:
            raise DataError(
                f"{path}: {_first(names)} {fault} this run's tokenizer of images, whose encoder is DALL-E's; expected "
                "its weights, with as many blocks at each size (objective.codes.blocks)"
            )
    for name, weight in own.items():
        if found[name].shape != weight.shape:
            raise DataError(
                f"{path}: holds a tokenizer of another shape, with {name} of shape {tuple(found[name].shape)}; this "
                f"run's is {tuple(weight.shape)}; give objective.codes its levels ([] for DALL-E's), stride and width"
            )
        weight.copy_(found[name])
    journal.event("codes from file", path=str(path))
    return f"predicts the codes of the tokenizer in {path}"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by name, on the CPU; raises DataError for what is no file of weights."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE, SafetensorError, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: no weights that can be read safely ({reason})") from None
    for key in CONTAINERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    weights = {str(k): v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, Mapping) else {}
    if not weights:
        raise DataError(f"{path}: holds no weights by name; expected those of a model (`model.state_dict()`)")
    return weights


def tower_weights(state: Mapping[str, Tensor], pixels: str, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """Weights under the names of `ImageTower`, and names of those that belong to no tower.

    Raises DataError where there is not one tower, or weights of it that ours has no place for.
    """
    prefix = _prefix(state, where)
    theirs = {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}
    left = [name for name in state if not name.startswith(prefix)]
    found: dict[str, Tensor] = {}
    strange = []
    for name, weight in theirs.items():
        if match := BLOCK.fullmatch(name):
            number, part, kind = match.groups()
            found[f"trunk.blocks.{number}.{PARTS[part]}.{kind}"] = weight
        elif name in ("norm.weight", "norm.bias"):
            found[name] = weight
        elif HEADS.match(name):
            left.append(prefix + name)
        elif name not in (STEM, "patch_embed.proj.bias", "cls_token", "pos_embed"):
            strange.append(prefix + name)
    if strange:
        raise DataError(
            f"{where}: {_first(strange)} of the published weights have no place in this program's image tower, "
            "which is a plain vision transformer (no layer scale, registers or distillation token)"
        )
    return {**found, **_stem(theirs, pixels, where), **_positions(theirs)}, left


def _prefix(state: Mapping[str, Tensor], where: str) -> str:
    stems = [name for name in state if name == STEM or name.endswith(f".{STEM}")]
    if len(stems) != 1:
        held = f"{len(stems)} of them ({_first(stems)})" if stems else f"{_first(list(state))}"
        raise DataError(f"{where}: expected the weights of one vision transformer under timm's names, found {held}")
    return stems[0].removesuffix(STEM)


def _stem(theirs: Mapping[str, Tensor], pixels: str, where: str) -> dict[str, Tensor]:
    """The projection of patches, for pixels in [-1,1]: it takes over the normalisation that it was trained with."""
    weight = theirs[STEM].double()
    if weight.ndim != 4 or weight.shape[1] != 3 or weight.shape[2] != weight.shape[3]:
        raise DataError(f"{where}: {STEM} has the shape {tuple(weight.shape)}, expected (width, 3, patch, patch)")
    mean, deviation = (torch.tensor(values, dtype=torch.float64) for values in PIXELS[pixels])
    bias = theirs["patch_embed.proj.bias"].double() if "patch_embed.proj.bias" in theirs else weight.new_zeros(1)
    bias = bias + weight.sum((2, 3)) @ ((0.5 - mean) / deviation)
    weight = weight / (2 * deviation)[:, None, None]
    return {
        "stem.project.weight": weight.permute(0, 2, 3, 1).flatten(1).float(),
        "stem.project.bias": bias.float(),
    }


def _positions(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Positions of patches, and the class token with its own, which ours has not."""
    found: dict[str, Tensor] = {}
    positions = theirs["pos_embed"].flatten(0, -2) if "pos_embed" in theirs else None
    if "cls_token" in theirs:
        token = theirs["cls_token"].flatten()
        if positions is not None and len(positions) == math.isqrt(len(positions) - 1) ** 2 + 1:
            token, positions = token + positions[0], positions[1:]
        found["class_token"] = token
    return found if positions is None else {**found, "positions": positions}


def _check(found: Mapping[str, Tensor], tower: ImageTower, where: str) -> None:
    """Raise DataError unless these are all weights of the tower, but a mask token, and none besides."""
    own = tower.state_dict()
    lacking = [name for name in own if name not in found and name != "mask_token"]
    besides = [name for name in found if name not in own]
    for names, fault in ((lacking, "lack {}"), (besides, "have {}, which this run's has not")):
        if names:
            raise DataError(
                f"{where}: the published weights {fault.format(_first([f'image.{name}' for name in names]))}; give the "
                "model their depth (model.depth), class token and positions"
            )
    for name, weight in found.items():
        if weight.shape != own[name].shape:
            raise DataError(
                f"{where}: the published image.{name} has the shape {tuple(weight.shape)}, this run's is "
                f"{tuple(own[name].shape)}; give the model their sizes (model.width, patch_size, image_size, or "
                "position_grid for other images)"
            )


def _first(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
