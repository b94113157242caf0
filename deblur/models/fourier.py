"""Convolution in the Fourier domain, where that of a periodic image is a product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """The values in single precision at least, which the transform needs."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def transfer_function(psf: Tensor, shape: tuple[int, int]) -> Tensor:
    """The factors of convolution with each PSF on a periodic grid, (B, 1, H, W // 2 + 1), complex.

    Args:
        psf: (B, 1, K, K), K at most H and W; its origin is the pixel (K // 2, K // 2).
        shape: (H, W) of the grid.
    """
    size = psf.shape[-1]
    height, width = shape
    grid = F.pad(psf, (0, width - size, 0, height - size)).roll((-(size // 2), -(size // 2)), dims=(-2, -1))
    return torch.fft.rfft2(grid)


@torch.compiler.disable  # inductor cannot take apart complex numbers whose last axis is not innermost in memory
def power(spectrum: Tensor) -> Tensor:
    """The squared magnitude, without the root that `abs` takes first."""
    return spectrum.real.square() + spectrum.imag.square()


def solve_psf(fx: Tensor, fy: Tensor, ridge: Tensor, shape: tuple[int, int]) -> Tensor:
    """What solves k * x = y for k on a periodic grid by regularised least squares, (B, R, H, W), origin in a corner.

    The quotient layer of C. J. Schuler, M. Hirsch, S. Harmeling and B. Schoelkopf, "Learning to Deblur", IEEE TPAMI
    2016: all channels share k, so their products and powers are summed.

    Args:
        fx, fy: `rfft2` of x and y, (B, C, H, W // 2 + 1).
        ridge: (R,), each in units of the mean power of x.
        shape: (H, W) of the grid.
    """
    energy = power(fx).sum(1, keepdim=True)
    ridge = energy.mean((-2, -1), keepdim=True) * ridge.view(1, -1, 1, 1) + 1e-6
    return torch.fft.irfft2((fx.conj() * fy).sum(1, keepdim=True) / (energy + ridge), s=shape)


def window(grid: Tensor, size: int) -> Tensor:
    """The (size, size) pixels around the origin in the grid's corner; in them the origin is (size // 2, size // 2)."""
    half = size // 2
    return grid.roll((half, half), (-2, -1))[..., :size, :size]


def laplacian(shape: tuple[int, int], like: Tensor) -> Tensor:
    """The factors of the negative discrete Laplacian on a periodic (H, W) grid, (H, W // 2 + 1), from 0 to 8.

    That is convolution with [[0, -1, 0], [-1, 4, -1], [0, -1, 0]]: the sum of squares of both forward differences.

    Args:
        shape: (H, W) of the grid.
        like: a tensor of the wanted precision and device.
    """
    height, width = shape
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)
    return (4 - 2 * (2 * torch.pi * rows).cos() - 2 * (2 * torch.pi * columns).cos()).to(like)


def continued(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """The images on a larger periodic grid, linear between their opposite borders beyond them.

    Args:
        images: (B, C, H, W), in the grid's corner.
        shape: (height, width) of the grid.
    """
    for dim, side in ((-2, shape[0]), (-1, shape[1])):
        length = images.shape[dim]
        share = torch.arange(1, side - length + 1, device=images.device, dtype=images.dtype) / (side - length + 1)
        share = share.view(-1, 1) if dim == -2 else share
        first, last = images.narrow(dim, 0, 1), images.narrow(dim, length - 1, 1)
        images = torch.cat([images, last + share * (first - last)], dim)
    return images
