"""MS-SSIM of each image."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from deblur.errors import ArgumentError

SMALLEST = 176  # pixels of a side: four halvings later the 11-pixel window still fits, 176 / 2**4 = 11


def ms_ssim(images: Tensor, sharp: Tensor) -> Tensor:
    """The multi-scale structural similarity of each pair of images, (B,); both sides are clamped to [0, 1] first.

    Source: Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-Scale Structural Similarity for Image Quality
    Assessment", Asilomar 2003: five scales, their exponents, an 11x11 Gaussian window of sigma 1.5. By torchmetrics:
    contrast and structure are averaged where the window fits, the coarsest scale's similarity over the whole image with
    mirrored borders, and a negative factor counts as zero, since its power would be no number.

    Args:
        images: (B, C, H, W), the images to judge.
        sharp: (B, C, H, W), the truth.

    Raises:
        ArgumentError: H or W is less than 176 pixels, where the window would not fit the fifth scale.
    """
    if min(images.shape[-2:]) < SMALLEST:
        raise ArgumentError("images", tuple(images.shape), f"of at least {SMALLEST}x{SMALLEST} pixels")
    images, sharp = images.float().clamp(0, 1), sharp.float().clamp(0, 1)
    with torch.autocast(images.device.type, enabled=False):
        # One image at a time: torchmetrics stacks five filtered copies of a batch of photographs.
        parts = [
            multiscale_structural_similarity_index_measure(*pair, data_range=(0.0, 1.0), reduction="none")
            for pair in zip(images.split(1), sharp.split(1), strict=True)
        ]
    return torch.cat(parts)
