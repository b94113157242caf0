"""Convolution in the Fourier domain, where that of a periodic image is a product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def transfer_function(psf: Tensor, shape: tuple[int, int]) -> Tensor:
    """The factors of convolution with each PSF on a periodic grid, (B, 1, H, W // 2 + 1), complex.

    Args:
        psf: (B, 1, K, K), K odd and at most H and W; its central pixel is the origin.
        shape: (H, W) of the grid.
    """
    size = psf.shape[-1]
    height, width = shape
    grid = F.pad(psf, (0, width - size, 0, height - size)).roll((-(size // 2), -(size // 2)), dims=(-2, -1))
    return torch.fft.rfft2(grid)


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
