"""Deconvolution with a given PSF by Wiener filters whose strengths are learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deblur.blur.psf import good_size
from deblur.errors import check_integer
from deblur.models.fourier import continued, full, laplacian, power, transfer_function


class WienerFilters(nn.Module):
    """Several Wiener filters of learned strengths, each applied to the whole image.

    In the Fourier domain a filter is conj(K) / (|K|^2 + a + b L), with the PSF's transform K and the negative
    Laplacian's L: Wiener's filter for images whose noise-to-signal ratio of power is a + b L. Each filter has its own a
    and b.

    That domain knows periodic images only. So the image is first continued by K - 1 pixels beyond its lower and right
    border, linearly from one border to the opposite one; then what was made up there is replaced by k * x, x being what
    the middle filter makes of it. After R. Liu and J. Jia, "Reducing Boundary Artifacts in Image Deconvolution", ICIP
    2008, with lines instead of their smooth tiles.

    Args:
        filters: how many.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, filters: int = 3) -> None:
        super().__init__()
        self.filters = check_integer("filters", filters, low=1)
        self.log_noise = nn.Parameter(torch.linspace(-9.0, -4.0, filters))
        self.log_roughness = nn.Parameter(torch.linspace(-7.0, -3.0, filters))

    def forward(self, blurred: Tensor, psf: Tensor) -> Tensor:
        """What each filter makes of the images, (B, filters * C, H, W), filter by filter.

        Args:
            blurred: (B, C, H, W).
            psf: (B, 1, K, K), its origin the pixel (K // 2, K // 2).
        """
        height, width = blurred.shape[-2:]
        y = full(blurred)
        shape = tuple(good_size(side + psf.shape[-1] - 1) for side in (height, width))
        fk = transfer_function(psf.to(y), shape)
        noise, roughness = (p.exp().to(y).view(-1, 1, 1) for p in (self.log_noise, self.log_roughness))
        bank = fk.conj() / (power(fk) + noise + roughness * laplacian(shape, y))  # (B, filters, ...)
        middle = self.filters // 2
        first = torch.fft.rfft2(continued(y, shape))
        whole = torch.fft.irfft2(fk * bank[:, middle : middle + 1] * first, s=shape)
        whole = torch.cat([torch.cat([y, whole[..., :height, width:]], -1), whole[..., height:, :]], -2)
        made = torch.fft.irfft2(bank.unsqueeze(2) * torch.fft.rfft2(whole).unsqueeze(1), s=shape)
        return made[..., :height, :width].flatten(1, 2).to(blurred.dtype)
