"""Changes of colour, blur and flips of many images at once, each by its own random numbers (SimCLR, as SLIP has them).

The operations are those of torchvision on images of floating-point numbers. Which images an operation takes is known on
the CPU, where the random numbers are: no other image is computed, and nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ablative.trainer.clip.spec.loss_options import ViewsConfig

NUMBERS = 13
"""Random numbers of a view: whether its colours change, four factors, their order, then grey, blur, deviation, flip."""
_FACTORS, _ORDER = slice(1, 5), slice(5, 9)
_GREY, _BLUR, _SIGMA, _FLIP = range(9, 13)


@torch.no_grad()
def augment(images: Tensor, numbers: Tensor, options: ViewsConfig) -> Tensor:
    """images (n,3,S,S) in [-1,1] → the same, augmented by numbers uniform in [0,1), (n,`NUMBERS`) on the CPU."""
    x = images.add(1).div_(2)
    values = _to(_values(numbers, options), x)
    for operation, rows in _steps(numbers, options, x.device):
        x.index_copy_(0, rows, operation(x[rows], values[rows]))
    return x.mul_(2).sub_(1)


def _values(numbers: Tensor, options: ViewsConfig) -> Tensor:
    """(n,5): brightness, contrast, saturation, hue and the blur's deviation of each image."""
    spread = torch.tensor([options.brightness, options.contrast, options.saturation, options.hue])
    changes = spread * (2 * numbers[:, _FACTORS] - 1)
    sigma = options.sigma_min + (options.sigma_max - options.sigma_min) * numbers[:, _SIGMA, None]
    return torch.cat([(1 + changes[:, :3]).clamp(min=0), changes[:, 3:], sigma], 1)


Operation = Callable[[Tensor, Tensor], Tensor]
"""Images (n,3,S,S) in [0,1] and their `_values` (n,5) → images."""
_COLOURS: tuple[Operation, ...] = (
    lambda x, values: brighten(x, values[:, 0]),
    lambda x, values: sharpen_contrast(x, values[:, 1]),
    lambda x, values: saturate(x, values[:, 2]),
    lambda x, values: turn_hue(x, values[:, 3]),
)
_REST: tuple[Operation, ...] = (
    lambda x, _: to_grey(x).expand(-1, 3, -1, -1),
    lambda x, values: blur(x, values[:, 4]),
    lambda x, _: x.flip(-1),
)


def _steps(numbers: Tensor, options: ViewsConfig, device: torch.device) -> list[tuple[Operation, Tensor]]:
    """Operations in their order, and which images each takes, int64 (m,) on the device."""
    order, changed = numbers[:, _ORDER].argsort(1), numbers[:, :1] < options.jitter
    taken = [
        (operation, changed[:, 0] & (order[:, turn] == number))
        for turn in range(len(_COLOURS))
        for number, operation in enumerate(_COLOURS)
    ]
    shares = ((_GREY, options.grey), (_BLUR, options.blur), (_FLIP, options.flip))
    taken += [(operation, numbers[:, column] < share) for operation, (column, share) in zip(_REST, shares, strict=True)]
    places = [mask.nonzero()[:, 0] for _, mask in taken]
    moved: Sequence[Tensor] = _moved(torch.cat(places), device).split([len(rows) for rows in places])
    return [(operation, rows) for (operation, _), rows in zip(taken, moved, strict=True) if len(rows)]


def _to(values: Tensor, x: Tensor) -> Tensor:
    return _moved(values.to(x.dtype), x.device)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """Pinned first: a copy from pageable memory would wait for all work queued on the device."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def brighten(x: Tensor, factors: Tensor) -> Tensor:
    """x (n,3,S,S) in [0,1], factors (n,)."""
    return (x * factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def sharpen_contrast(x: Tensor, factors: Tensor) -> Tensor:
    """Away from (below 1: towards) the mean of the grey image."""
    return _blend(x, to_grey(x).mean((1, 2, 3), keepdim=True), factors)


def saturate(x: Tensor, factors: Tensor) -> Tensor:
    """Away from (below 1: towards) the grey image."""
    return _blend(x, to_grey(x), factors)


def _blend(x: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    factors = factors.view(-1, 1, 1, 1)
    return (factors * x + (1 - factors) * other).clamp_(0, 1)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Hue moved by turns (n,) of the colour circle, saturation and value kept."""
    red, green, blue = x.unbind(1)
    high, low = x.amax(1), x.amin(1)
    span = high - low
    scale = 1 / span.masked_fill(span == 0, 1)
    sector = torch.where(high == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    sector = torch.where(high == red, (green - blue) * scale, sector) + 6 * turns.view(-1, 1, 1)
    # Each channel is a trapezium over the circle, a third of a turn away from the next one.
    parts = [((start + sector) % 6) for start in (5, 3, 1)]
    return torch.stack([high - span * torch.minimum(part, 4 - part).clamp_(0, 1) for part in parts], 1)


def to_grey(x: Tensor) -> Tensor:
    """(n,3,S,S) → (n,1,S,S)."""
    red, green, blue = x.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue)[:, None]


def blur(x: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur with deviations (n,) in pixels; borders are reflected."""
    radius = max(1, x.shape[-1] // 20)
    distance = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    weights = (-0.5 * (distance / sigmas[:, None]).square()).softmax(1).repeat_interleave(3, 0)
    planes = F.pad(x.flatten(0, 1)[None], (radius,) * 4, mode="reflect")
    planes = F.conv2d(planes, weights[:, None, None, :], groups=len(weights))
    return F.conv2d(planes, weights[:, None, :, None], groups=len(weights)).view_as(x)
