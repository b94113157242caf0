"""PSNR that forgives a small shift of the whole image."""

from __future__ import annotations

import torch
from torch import Tensor

from deblur.errors import check_integer
from deblur.metrics import psnr_of

MAX_SHIFT = 3  # pixels
_PIXELS = 2**18  # of the images compared at once, so that they stay in a processor's cache


def aligned_psnr(images: Tensor, sharp: Tensor, max_shift: int = MAX_SHIFT) -> Tensor:
    """The best PSNR of each image over whole-pixel shifts, (B,), in dB, at most 100; both are clamped to [0, 1] first.

    Blind deblurring knows the image only up to a shift: any shift of the PSF moves it back. So papers report the best
    over small shifts: A. Levin et al., "Understanding and Evaluating Blind Deconvolution Algorithms", CVPR 2009;
    R. Köhler et al., "Recording and Playback of Camera Shake", ECCV 2012. Here each shift is judged on the pixels that
    both images have, (H - |dy|)(W - |dx|) of them, so that no shift is plain PSNR and the best is never below it.
    (Levin et al. cut a fixed border off, which a digit of 28 pixels cannot spare.) Half pixels are left out:
    interpolating smooths a noisy image, and a better value would say nothing of its alignment.

    Args:
        images: (B, C, H, W), the images to judge.
        sharp: (B, C, H, W), the truth.
        max_shift: the largest shift along either axis in pixels, less than half the shorter side.

    Raises:
        ArgumentError: max_shift is out of its range.
    """
    height, width = images.shape[-2:]
    check_integer("max_shift", max_shift, low=0, high=(min(height, width) - 1) // 2)
    images, sharp = images.float().clamp(0, 1), sharp.float().clamp(0, 1)
    shifts = range(-max_shift, max_shift + 1)
    count = max(1, _PIXELS // max(1, images[:1].numel()))
    best = []
    for image, truth in zip(images.split(count), sharp.split(count), strict=True):
        errors = [
            (image[:, :, rows, columns] - truth[:, :, true_rows, true_columns]).square_().mean(dim=(1, 2, 3))
            for rows, true_rows in (_common(shift, height) for shift in shifts)
            for columns, true_columns in (_common(shift, width) for shift in shifts)
        ]
        best.append(torch.stack(errors).amin(dim=0))
    return psnr_of(torch.cat(best))


def _common(shift: int, size: int) -> tuple[slice, slice]:
    """Where a line of pixels that has moved by the shift, and the line as it was, show the same."""
    return slice(max(shift, 0), size + min(shift, 0)), slice(max(-shift, 0), size - max(shift, 0))
