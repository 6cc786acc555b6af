"""A plain image tower as a pyramid of feature maps: four taps and BEiT's neck (Bao et al. 2022, arXiv 2106.08254)."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ablative.trainer.clip.models.towers import ImageTower

DEPTHS = (1 / 3, 1 / 2, 2 / 3, 1)
"""Where the taps are, as shares of the blocks: after blocks 4, 6, 8 and 12 of 12."""
LEVELS = len(DEPTHS)
INPUTS = tuple(f"trunk.image.{name}" for name in ("stem", "positions", "class_token"))
"""Parameters before the blocks, of a model that has its `PyramidTrunk` in `trunk`."""


class PyramidTrunk(nn.Module):
    """Images (B,3,H,W), H and W multiples of 2p pixels for patches of p → maps with a cell for p/4, p/2, p and 2p."""

    def __init__(self, image: ImageTower, drop_path: float) -> None:
        """`image` is copied; the neck's weights come from torch's global generator."""
        super().__init__()
        self.image = copy.deepcopy(image)
        self.image.norm = nn.Identity()
        self.image.trunk.set_drop_path(drop_path)
        depth = len(self.image.trunk.blocks)
        self.width = self.image.positions.shape[1]
        self.blocks = tuple(max(1, round(depth * share)) for share in DEPTHS)
        self.finest = nn.Sequential(_doubled(self.width), nn.BatchNorm2d(self.width), nn.GELU(), _doubled(self.width))
        self.finer = _doubled(self.width)
        self.coarsest = nn.MaxPool2d(2)

    def forward(self, images: Tensor, paths: Tensor | None = None) -> list[Tensor]:
        """Four maps (B,D,h,w), the finest first; `paths`: random numbers as `Transformer.forward` takes them."""
        rows, columns = (length // self.image.stem.patch_size for length in images.shape[2:])
        wanted = tuple(sorted(set(self.blocks)))
        found = dict(zip(wanted, self.image.taps(images, wanted, paths), strict=True))
        first, second, third, fourth = (
            found[block].transpose(1, 2).unflatten(2, (rows, columns)) for block in self.blocks
        )
        return [self.finest(first), self.finer(second), third, self.coarsest(fourth)]


def _doubled(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 2, stride=2)
