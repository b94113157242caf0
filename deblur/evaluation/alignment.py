"""PSNR that forgives a small shift of the whole image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
    count = max(1, _PIXELS // max(1, images[:1].numel()))
    parts = zip(images.split(count), sharp.split(count), strict=True)
    errors = [_least_error(a.float().clamp(0, 1), b.float().clamp(0, 1), max_shift) for a, b in parts]
    return psnr_of(torch.cat(errors))


def _least_error(images: Tensor, sharp: Tensor, most: int) -> Tensor:
    """The least mean squared error of each image over the shifts, (B,).

    Each shift's is (sum of both images' squares - 2 * their correlation) / pixels, around the sharp image's mean, for
    accuracy. Rounding still makes that too rough for an error near 0, so it only chooses the shift; the error itself,
    and that of no shift, is of the differences.
    """
    batch, channels, height, width = images.shape
    if batch == 0:
        return images.new_zeros(0)
    mean = sharp.mean(dim=(1, 2, 3), keepdim=True)
    images, sharp = images - mean, sharp - mean
    rows, columns = (_inside(size, most, images.device) for size in (height, width))
    padded = F.pad(images, [most] * 4)
    correlation = F.conv2d(
        padded.reshape(1, -1, *padded.shape[-2:]), sharp.reshape(-1, 1, height, width), groups=batch * channels
    )
    correlation = correlation.view(batch, channels, *correlation.shape[-2:]).sum(dim=1)
    squares = rows @ sharp.square().sum(dim=1) @ columns.mT
    squares += rows.flip(0) @ images.square().sum(dim=1) @ columns.flip(0).mT
    pixels = (rows.sum(dim=1)[:, None] * columns.sum(dim=1) * channels).flatten()
    best = ((squares - 2 * correlation).flatten(1) / pixels).argmin(dim=1)
    errors = (images - sharp).square_().mean(dim=(1, 2, 3))
    which = (best != len(pixels) // 2).nonzero().flatten()  # whose best is not the shift by nothing, in the middle
    best = best[which]
    down, right = best // len(columns), best % len(columns)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, shifts down, shifts right, H, W), a view
    difference = windows[which, :, down, right] - sharp[which]
    difference *= rows[down][:, None, :, None] * columns[right][:, None, None, :]
    moved = difference.square_().sum(dim=(1, 2, 3)) / pixels[best]
    errors[which] = torch.minimum(moved, errors[which])
    return errors


def _inside(size: int, most: int, device: torch.device) -> Tensor:
    """1 where a pixel of a line of this size still lies in it after each shift, from -most to most: (shifts, size)."""
    moved = torch.arange(size, device=device) + torch.arange(-most, most + 1, device=device)[:, None]
    return ((moved >= 0) & (moved < size)).float()
