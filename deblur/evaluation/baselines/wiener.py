"""Wiener deconvolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur.blur.psf import good_size
from deblur.errors import check_number
from deblur.evaluation.baselines.base import Baseline
from deblur.models.fourier import laplacian, transfer_function


class Wiener(Baseline):
    """The Wiener-Hunt filter: x = argmin |k * x - y|^2 + balance |laplacian x|^2, in closed form in Fourier space.

    As `skimage.restoration.wiener`, for a batch. Fourier space knows periodic images only, so the image is extended
    first: by K - 1 pixels of black at least, where the blur saw black (`zeros`); by its whole mirror image, which is
    periodic without a seam (`reflect`); not at all where it is periodic (`circular`).

    Source: B. R. Hunt, "The Application of Constrained Least Squares Estimation to Image Restoration by Digital
    Computer", IEEE Trans. Computers 1973.

    Args:
        balance: how much roughness costs, > 0; more for more noise.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    name = "Wiener (true PSF)"
    parameter = "balance"
    grid = tuple(10.0 ** (quarters / 4) for quarters in range(-32, 5))

    def __init__(self, balance: float) -> None:
        super().__init__(check_number("balance", balance, above=0.0))

    @classmethod
    def sweep(
        cls, blurred: Tensor, psf: Tensor, padding: str, values: Sequence[float]
    ) -> Iterator[tuple[float, Tensor]]:
        height, width = blurred.shape[-2:]
        margin = psf.shape[-1] - 1
        if padding == "reflect":
            blurred = F.pad(blurred, (0, width - 2, 0, height - 2), mode="reflect")
        elif padding == "zeros":
            blurred = F.pad(blurred, (0, good_size(width + margin) - width, 0, good_size(height + margin) - height))
        shape = tuple(blurred.shape[-2:])
        transfer = transfer_function(psf, shape)
        power, roughness = transfer.abs().square(), laplacian(shape, blurred).square()
        matched = transfer.conj() * torch.fft.rfft2(blurred)
        for balance in values:
            restored = torch.fft.irfft2(matched / (power + balance * roughness), s=shape)
            yield balance, restored[..., :height, :width]
