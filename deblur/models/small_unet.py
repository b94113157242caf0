"""The small U-Net that the deconvolvers restore with, and the checks of the arguments that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur.errors import ArgumentError, check_integer


class SmallUNet(nn.Module):
    """U-Net of two levels, at half and at quarter resolution.

    That of O. Ronneberger, P. Fischer and T. Brox, MICCAI 2015, on pixel-unshuffled images (W. Shi et al., CVPR 2016).

    Args:
        inputs, outputs: channels.
        widths: feature maps at half and at quarter resolution.
        blocks: residual blocks at half resolution (before and again after), at quarter resolution.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        fine, coarse = widths
        self.stem = nn.Conv2d(4 * inputs, fine, 3, padding=1)
        self.encoder = nn.Sequential(*(ResidualBlock(fine) for _ in range(blocks[0])))
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.bottom = nn.Sequential(*(ResidualBlock(coarse) for _ in range(blocks[1])))
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.decoder = nn.Sequential(*(ResidualBlock(fine) for _ in range(blocks[0])))
        self.head = nn.Conv2d(fine, 4 * outputs, 3, padding=1)
        with torch.no_grad():
            self.head.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, outputs, H, W) from (B, inputs, H, W), both sides multiples of 4."""
        x = self.encoder(self.stem(F.pixel_unshuffle(x, 2)))
        coarse = self.bottom(self.down(x))
        return F.pixel_shuffle(self.head(self.decoder(x + F.pixel_shuffle(self.up(coarse), 2))), 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to the input: EDSR's (B. Lim et al., CVPRW 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )
        with torch.no_grad():
            self.layers[-1].weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def check_unet(widths: Any, blocks: Any, prefix: str = "") -> None:
    """Refuses what a `SmallUNet` cannot be made with.

    Args:
        widths, blocks: its arguments.
        prefix: of their names where they were given.

    Raises:
        ArgumentError: one is out of its range.
    """
    check_pair(f"{prefix}widths", widths, 1, "for the upper and for the lower level")
    check_pair(f"{prefix}blocks", blocks, 0, "for the upper and for the lower level")


def check_estimate(psf_size: Any, psf_width: Any, psf_hidden: Any, filters: Any) -> None:
    """Refuses what no PSF can be estimated and deconvolved with: see the models that have these arguments.

    Raises:
        ArgumentError: one is out of its range.
    """
    check_integer("psf_size", psf_size, low=4)
    if psf_size % 4:
        raise ArgumentError("psf_size", psf_size, "a multiple of 4")
    for name, number in (("psf_width", psf_width), ("psf_hidden", psf_hidden), ("filters", filters)):
        check_integer(name, number, low=1)


def check_pair(name: str, pair: Any, low: int, what: str) -> None:
    """Refuses what is not a pair of whole numbers of at least `low`.

    Args:
        name: of the argument that the pair is of.
        pair: what was given.
        low: see above.
        what: what the two are for, for the message.

    Raises:
        ArgumentError: it is no such pair.
    """
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ArgumentError(name, pair, f"two whole numbers, {what}")
    for number in pair:
        check_integer(name, number, low=low)
