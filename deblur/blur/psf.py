"""From trajectories to PSFs, and from PSFs to blurred images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

PADDINGS = ("zeros", "reflect", "circular")

# Samples worked on at once on the CPU, so that what is in between stays in the cache: drawing 4,096 PSFs takes 2 ms
# instead of 9, convolving as many digits 6 instead of 13.
_CPU_CHUNK = 256

_GPU_WEIGHTS = 2**25  # of points for rows and columns that exist at once on a GPU: 256 MB

# Sides in pixels from which the Fourier domain is faster. On one or two cores and images of 64 to 400, grey or in
# colour, it takes between 1.1 and half of the time for PSFs of 13 pixels, about half for 17, a fourth for 25.
_FFT_PSF, _FFT_IMAGE = 13, 64

_FFT_CPU_CHUNK = 2**19  # pixels of all channels that are transformed at once there: little memory, and in the cache


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product; on a GPU, where a training may round those of single precision to TF32, in double."""
    return (a.double() @ b.double()).to(a.dtype) if a.is_cuda else a @ b


def running_sum(values: Tensor) -> Tensor:
    """The cumulative sums along the last axis; on a GPU a product, since torch's own depends on chance there."""
    if not values.is_cuda:
        return values.cumsum(dim=-1)
    size = values.shape[-1]
    return product(values, torch.ones(size, size, dtype=values.dtype, device=values.device).triu())


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
    if not trajectory.is_cuda:
        return in_chunks(_draw_psf, trajectory, grid)
    # In double precision, since a training may round other products to TF32; a bounded number of weights at once.
    count = max(1, _GPU_WEIGHTS // (2 * size * trajectory.shape[1]))
    parts = [_draw_psf(part, grid.double()) for part in trajectory.double().split(count)]
    return torch.cat(parts).to(trajectory.dtype)


def _draw_psf(trajectory: Tensor, grid: Tensor) -> Tensor:
    weights = (1 - (grid - trajectory.unsqueeze(-1)).abs()).clamp_(min=0)  # (B, T, 2, size)
    return (weights[:, :, 0].mT @ weights[:, :, 1]).div_(trajectory.shape[1]).unsqueeze(1)


def crop_psf(psf: Tensor, size: int) -> Tensor:
    """The PSFs in a window of another size: cropped, or with zeros around. What is cropped away is lost.

    Args:
        psf: (B, 1, K, K), its origin the pixel (K // 2, K // 2).
        size: side of the window in pixels; the origin becomes the pixel (size // 2, size // 2).
    """
    side = psf.shape[-1]
    before = size // 2 - side // 2
    after = size - side - before
    return F.pad(psf, (before, after, before, after))


def psf_reach(psf: Tensor, share: float = 0.0) -> int:
    """How far PSFs (B, 1, K, K) get from their origin, pixels, at least 1: where they exceed a share of the maximum."""
    high = psf.amax(dim=(2, 3), keepdim=True)
    used = ((psf > share * high) & (psf > 1e-6)).any(dim=0)[0].nonzero()
    return max(int((used - psf.shape[-1] // 2).abs().max()) if len(used) else 0, 1)


def convolve(images: Tensor, psf: Tensor, padding: str = "zeros") -> Tensor:
    """Each image convolved (not correlated) with its own PSF, (B, C, H, W), of the images' size.

    Args:
        images: (B, C, H, W).
        psf: (B, 1, K, K), K odd; the same PSF serves all channels of an image.
        padding: what lies outside the image: `zeros`, `reflect` (mirrored without the edge pixel) or `circular`.
    """
    return in_chunks(partial(_convolve, padding=padding), images, psf, each=True)


def in_chunks(
    operation: Callable[[Tensor, Tensor], Tensor], batch: Tensor, other: Tensor, each: bool = False
) -> Tensor:
    """operation(batch, other), on the CPU in chunks of the batch that stay in its cache.

    Args:
        operation: of images, or what else there is one of for each sample, and another tensor.
        batch, other: its arguments.
        each: whether `other` also has one entry a sample, else every chunk gets all of it.
    """
    if batch.device.type != "cpu" or len(batch) <= _CPU_CHUNK:
        return operation(batch, other)
    chunks = batch.split(_CPU_CHUNK)
    others = other.split(_CPU_CHUNK) if each else [other] * len(chunks)
    return torch.cat([operation(*pair) for pair in zip(chunks, others, strict=True)])


def good_size(size: int) -> int:
    """The smallest number of at least `size` without prime factors above 5: quick to transform."""
    size = int(size)  # of an export for any size, too: it would follow a number without value through this for minutes
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def _convolve(images: Tensor, psf: Tensor, padding: str) -> Tensor:
    half = psf.shape[-1] // 2
    if padding != "zeros" and half:
        images = F.pad(images, (half, half, half, half), mode=padding)
    large = psf.shape[-1] >= _FFT_PSF and min(images.shape[-2:]) >= _FFT_IMAGE
    return (_convolve_by_fft if large else _convolve_directly)(images, psf, padding == "zeros")


def _convolve_by_fft(images: Tensor, psf: Tensor, zeros: bool) -> Tensor:
    """The convolution's valid part; with `zeros` around the images, what has their size."""
    half = psf.shape[-1] // 2
    height, width = images.shape[-2:]
    # Circular convolution wraps what lies beyond the transform's size to the first `half` rows, which are cut off.
    size = [good_size(side + (half if zeros else 0)) for side in (height, width)]
    start, beyond = (half, half) if zeros else (2 * half, 0)
    blurred = images.new_empty(*images.shape[:2], height + beyond - start, width + beyond - start)
    most = max(1, _FFT_CPU_CHUNK // max(1, images[:1].numel())) if images.device.type == "cpu" else max(1, len(images))
    for first in range(0, len(images), most):
        part = slice(first, first + most)
        spectrum = torch.fft.rfft2(images[part], s=size).mul_(torch.fft.rfft2(psf[part], s=size))
        whole = torch.fft.irfft2(spectrum, s=size)
        blurred[part] = whole[..., start : height + beyond, start : width + beyond]
    return blurred


def _convolve_directly(images: Tensor, psf: Tensor, zeros: bool) -> Tensor:
    """The convolution's valid part; with `zeros` around the images, what has their size."""
    batch, channels = images.shape[:2]
    half = psf.shape[-1] // 2
    kernels = psf.flip(-2, -1)  # conv2d correlates
    if channels > 1:
        kernels = kernels.repeat_interleave(channels, dim=0)
    planes = images.reshape(1, batch * channels, *images.shape[-2:])
    if images.device.type == "cpu":
        # One plane a group: with the planes innermost in memory the same product runs about ten times as fast.
        planes = planes.contiguous(memory_format=torch.channels_last)
    blurred = F.conv2d(planes, kernels, padding=half if zeros else 0, groups=batch * channels)
    return blurred.reshape(batch, channels, *blurred.shape[-2:])
