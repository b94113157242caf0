"""What a blind network finds out on its way to the restored image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Estimates(NamedTuple):
    """What a network with `estimates(blurred)` returns: everything that its training can be held to.

    Attributes:
        images: (B, C, H, W) each, in the order in which they are made; the last one is the restored image.
        psfs: (B, 1, K, K) each, their origin the pixel (K // 2, K // 2).
    """

    images: list[Tensor]
    psfs: list[Tensor]
