"""From trajectories to PSFs, and from PSFs to blurred images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

PADDINGS = ("zeros", "reflect", "circular")

# Images convolved at once on the CPU: the transposed batch and its result stay in the cache (13 against 6 ms for
# 4,096 digits).
_CPU_CHUNK = 256


def draw_psf(trajectory: Tensor, size: int) -> Tensor:
    """The PSF of each trajectory, (B, 1, size, size): its points splatted bilinearly around the central pixel.

    k[u] = mean over t of tri(u_y - y_t) tri(u_x - x_t) with tri(a) = max(0, 1 - |a|): for points inside the grid this
    keeps the mass (1) and the centroid. It is separable for each point, so the whole sum is one batched product of
    two (T, size) matrices: no scatter and no loop.

    Args:
        trajectory: (B, T, 2) offsets (y, x) in pixels at equal time steps, none farther than size // 2 from 0.
        size: side of the PSF in pixels, odd.
    """
    grid = torch.arange(size, device=trajectory.device, dtype=trajectory.dtype) - size // 2
    weights = (1 - (grid - trajectory.unsqueeze(-1)).abs()).clamp_(min=0)  # (B, T, 2, size)
    return (weights[:, :, 0].mT @ weights[:, :, 1]).div_(trajectory.shape[1]).unsqueeze(1)


def convolve(images: Tensor, psf: Tensor, padding: str = "zeros") -> Tensor:
    """Each image convolved (not correlated) with its own PSF, (B, C, H, W), of the images' size.

    Args:
        images: (B, C, H, W).
        psf: (B, 1, K, K), K odd; the same PSF serves all channels of an image.
        padding: what lies outside the image: `zeros`, `reflect` (mirrored without the edge pixel) or `circular`.
    """
    return in_chunks(partial(_convolve, padding=padding), images, psf)


def in_chunks(operation: Callable[[Tensor, Tensor], Tensor], images: Tensor, kernels: Tensor) -> Tensor:
    """operation(images, kernels), on the CPU in chunks of the batch that fit its cache."""
    if images.device.type != "cpu" or len(images) <= _CPU_CHUNK:
        return operation(images, kernels)
    chunks = zip(images.split(_CPU_CHUNK), kernels.split(_CPU_CHUNK), strict=True)
    return torch.cat([operation(*chunk) for chunk in chunks])


def _convolve(images: Tensor, psf: Tensor, padding: str) -> Tensor:
    batch, channels, height, width = images.shape
    half = psf.shape[-1] // 2
    if padding != "zeros" and half:
        images = F.pad(images, (half, half, half, half), mode=padding)
    kernels = psf.flip(-2, -1)  # conv2d correlates
    if channels > 1:
        kernels = kernels.repeat_interleave(channels, dim=0)
    planes = images.reshape(1, batch * channels, *images.shape[-2:])
    if images.device.type == "cpu":
        # One plane a group: with the planes innermost in memory the same product runs about ten times as fast.
        planes = planes.contiguous(memory_format=torch.channels_last)
    blurred = F.conv2d(planes, kernels, padding=half if padding == "zeros" else 0, groups=batch * channels)
    return blurred.reshape(batch, channels, height, width)
