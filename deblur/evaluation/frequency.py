"""What a restoration did to each spatial frequency: radial power spectra, their error, and high-frequency energy.

Power here is |DFT|² / (H·W), averaged over channels: white noise of variance σ² has σ² at every frequency, whatever the
image's size. Frequencies are in cycles a pixel: 0.5 is the highest that a row of pixels can hold.

An image's opposite borders differ, and the DFT takes that for edges: a bright cross that hides what blur removed. So
the spectrum is that of the image's periodic component (L. Moisan, "Periodic Plus Smooth Image Decomposition", J. Math.
Imaging Vis. 39, 2011). Unlike a window it leaves every pixel its weight, and an image on an even background, such as a
digit, as it is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from deblur.errors import ArgumentError, check_integer

RINGS = 10  # of 0.05 cycles a pixel
SMALLEST = 2 * RINGS  # pixels of a side: of a smaller image a ring could hold no frequency
HIGH = 0.25  # cycles a pixel, a quarter of the sampling frequency: what lies above counts as high
ROUNDING_POWER = 1 / (12 * 255**2)  # of 8-bit rounding noise, -58.9 dB: no file would show what lies below it


class Bands(NamedTuple):
    """The power of images, clamped to [0, 1], in bands of frequency.

    Attributes:
        rings: (B, 10), the mean power in each ring of 0.05 cycles a pixel, in dB.
        high: (B,), the mean power above 0.25 cycles a pixel.
    """

    rings: Tensor
    high: Tensor


def bands(images: Tensor) -> Bands:
    """The bands of images (B, C, H, W).

    Raises:
        ArgumentError: H or W is less than 20 pixels.
    """
    size = tuple(images.shape[-2:])
    if min(size) < SMALLEST:
        raise ArgumentError("images", tuple(images.shape), f"of at least {SMALLEST}x{SMALLEST} pixels")
    with torch.autocast(images.device.type, enabled=False):
        power = _power(images)
        high = (power @ _high_weights(size, images.device)).clamp(min=ROUNDING_POWER)
        return Bands(_decibels(power @ _ring_weights(size, RINGS, images.device)), high)


def frequency_metrics(images: Tensor, sharp: Tensor | Bands) -> dict[str, Tensor]:
    """`spectrum_error` (dB) and `high_frequency_ratio` of each image, (B,) each; both are clamped to [0, 1] first.

    `spectrum_error`: the mean over ten rings of 0.05 cycles a pixel of the absolute difference of the two radial
    spectra in dB. 0 for the sharp image. The spectrum is the azimuthal integral of R. Durall, M. Keuper and J. Keuper,
    "Watch Your Up-Convolution", CVPR 2020, divided by the ring's size.

    `high_frequency_ratio`, of our own: the energy of the image above 0.25 cycles a pixel, in all directions up to the
    corners of the spectrum, over that of the sharp image. 1 for the sharp image, less for blur, more for noise and
    ringing.

    In both, power below that of 8-bit rounding noise counts as that: an even image divides by no zero.

    Args:
        images: (B, C, H, W), the images to judge.
        sharp: (B, C, H, W), the truth, or its bands.

    Raises:
        ArgumentError: H or W is less than 20 pixels.
    """
    found, true = bands(images), bands(sharp) if isinstance(sharp, Tensor) else sharp
    error = (found.rings - true.rings).abs().mean(dim=1)
    return {"spectrum_error": error, "high_frequency_ratio": found.high / true.high}


def radial_spectrum(images: Tensor, rings: int = RINGS) -> tuple[Tensor, Tensor]:
    """The rings' middle frequencies in cycles a pixel, (rings,), and the mean power in each ring in dB, (B, rings).

    Ring k holds the frequencies of radius in (k, k + 1] · 0.5 / rings. The mean brightness is in none, nor is what lies
    beyond 0.5 cycles a pixel, where no ring is whole. Power below that of 8-bit rounding noise counts as that.

    Args:
        images: (B, C, H, W), clamped to [0, 1] first.
        rings: at most half the shorter side, so that every ring holds a frequency.

    Raises:
        ArgumentError: there is no ring, or there are too many for the images' size.
    """
    size = tuple(images.shape[-2:])
    check_integer("rings", rings, low=1, high=min(size) // 2)
    with torch.autocast(images.device.type, enabled=False):
        spectrum = _decibels(_power(images) @ _ring_weights(size, rings, images.device))
    return (torch.arange(rings, device=images.device) + 0.5) * (0.5 / rings), spectrum


def _decibels(power: Tensor) -> Tensor:
    return power.clamp(min=ROUNDING_POWER).log10().mul(10)


def _power(images: Tensor) -> Tensor:
    """The power of each image's periodic component, (B, H · (W // 2 + 1))."""
    images = images.float().clamp(0, 1)
    spectrum = torch.fft.rfft2(images, norm="ortho") - _smooth_spectrum(images)
    return (spectrum.real.square() + spectrum.imag.square()).mean(dim=1).flatten(1)


def _smooth_spectrum(images: Tensor) -> Tensor:
    """The orthonormal DFT of each image's smooth component: Moisan's theorem 1."""
    row, column = images[..., -1, :] - images[..., 0, :], images[..., -1] - images[..., 0]  # the jumps across borders
    of_rows, of_columns = _smooth_weights(tuple(images.shape[-2:]), images.device)
    return torch.fft.rfft(row)[..., None, :] * of_rows + torch.fft.fft(column)[..., None] * of_columns


@lru_cache(maxsize=2)
def _smooth_weights(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """What the jumps from bottom to top, and those from right to left, give of each frequency: (H, W // 2 + 1) each."""
    height, width = size
    y = torch.fft.fftfreq(height, dtype=torch.float64)[:, None] * (2 * torch.pi)
    x = torch.fft.rfftfreq(width, dtype=torch.float64) * (2 * torch.pi)
    laplacian = 2 * y.cos() + 2 * x.cos() - 4
    laplacian[0, 0] = 1  # instead of 0: the jumps sum to zero
    scale = 1 / (laplacian * (height * width) ** 0.5)
    # The jump lies in the first row (column) and its negative in the last: the DFT of that is one of the jump alone.
    with torch.inference_mode(False):
        return tuple(((1 - torch.exp(1j * line)) * scale).to(torch.complex64).to(device) for line in (y, x))


@lru_cache(maxsize=2)
def _ring_weights(size: tuple[int, int], rings: int, device: torch.device) -> Tensor:
    """The matrix (H · (W // 2 + 1), rings) whose columns average over the rings."""
    radius, count = _frequencies(size)
    ring = (radius * (2 * rings) - 1e-9).ceil().long() - 1  # of a frequency on the edge, to rounding: the inner ring
    weights = (ring[:, None] == torch.arange(rings)) * count[:, None]
    with torch.inference_mode(False):  # it is kept for callers of any mode
        return (weights / weights.sum(dim=0)).float().to(device)


@lru_cache(maxsize=2)
def _high_weights(size: tuple[int, int], device: torch.device) -> Tensor:
    """The vector (H · (W // 2 + 1),) that averages over the high frequencies."""
    radius, count = _frequencies(size)
    weights = (radius > HIGH + 1e-9) * count
    with torch.inference_mode(False):
        return (weights / weights.sum()).float().to(device)


def _frequencies(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The radius in cycles a pixel of each frequency of a real DFT, and how often the whole DFT has it, (N,) each."""
    height, width = size
    y = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    x = torch.fft.rfftfreq(width, dtype=torch.float64)
    count = torch.where((x == 0) | (x == 0.5), 1.0, 2.0).double().expand(height, -1)
    return torch.hypot(y, x).flatten(), count.flatten()
