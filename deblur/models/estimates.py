"""What a network finds out on its way to the restored image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Estimates(NamedTuple):
    """What a network with `estimates(blurred)` returns: everything that its training can be held to.

    Attributes:
        images: (B, C, H, W) each, in the order in which they are made; the last one is the restored image. Those before
            it may be smaller and grey, see `reduced`.
        psfs: (B, 1, K, K) each, their origin the pixel (K // 2, K // 2).
    """

    images: list[Tensor]
    psfs: list[Tensor]


class Restored(NamedTuple):
    """Restored images, (B, C, H, W), and the PSFs that the network found, (B, 1, K, K); None if it looks for none."""

    images: Tensor
    psf: Tensor | None


def reduced(images: Tensor, shape: Sequence[int]) -> Tensor:
    """The images reduced to a shape: means over 2x2 pixels where it is half as large, over channels where it has one.

    Args:
        images: (B, C, H, W).
        shape: (B, C or 1, H, W) or (B, C or 1, ceil(H / 2), ceil(W / 2)).
    """
    if shape[1] < images.shape[1]:
        images = images.mean(1, keepdim=True)
    if images.shape[-2:] == shape[-2:]:
        return images
    return F.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)


def takes_psf(network: nn.Module) -> bool:
    """Whether the network is given the PSFs beside the blurred images."""
    return getattr(network, "takes_psf", False)


def estimates_psf(network: nn.Module) -> bool:
    """Whether the network finds PSFs itself."""
    return hasattr(network, "estimates")


def restore(network: nn.Module, *given: Tensor) -> Restored:
    """What the network makes of the blurred images (and their PSFs, if it takes such), with its last PSF of each."""
    if not estimates_psf(network):
        return Restored(network(*given), None)
    estimates = network.estimates(*given)
    return Restored(estimates.images[-1], estimates.psfs[-1] if estimates.psfs else None)
