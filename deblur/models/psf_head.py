"""From a blurred and a restored image to the PSF between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur.errors import check_integer
from deblur.models.fourier import full, solve_psf, window


class PSFHead(nn.Module):
    """Solves k * x = y for the PSF k, given the blurred y and the restored x, and cleans what it finds.

    (1) The same few linear filters are applied to x and to y: k * (f * x) = f * y holds as well, and filters that even
    out the spectrum make it a better question. (2) Regularised least squares in the Fourier domain give rough PSFs, one
    for each of three strengths (the quotient layer of C. J. Schuler et al., "Learning to Deblur", IEEE TPAMI 2016).
    (3) A small convolutional network makes of them one map of K x K logits, whose softmax is the PSF: non-negative and
    of sum 1 by construction. Filters, strengths and network are learned. Images may be of any size.

    Args:
        channels: channels of the images; they share the PSF.
        psf_size: K, pixels.
        width: feature maps of the network that cleans.
        filters: how many there are.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, channels: int, psf_size: int, width: int = 24, filters: int = 4) -> None:
        super().__init__()
        check_integer("channels", channels, low=1)
        self.psf_size = check_integer("psf_size", psf_size, low=1)
        check_integer("width", width, low=1)
        check_integer("filters", filters, low=1)
        self.filters = nn.Conv2d(channels, filters, 5, padding=2, padding_mode="replicate", bias=False)
        self.log_ridge = nn.Parameter(torch.tensor([-5.0, -3.0, -1.0]))  # in units of the mean power of x
        strengths = len(self.log_ridge)
        self.cleaner = nn.Sequential(
            nn.Conv2d(strengths, width, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 5, padding=2),
        )
        self.sharpness = nn.Parameter(torch.full((1, strengths, 1, 1), 2.0))  # of the rough PSFs among the logits

    def forward(self, blurred: Tensor, restored: Tensor) -> Tensor:
        """The PSFs, (B, 1, psf_size, psf_size)."""
        x, y = (full(self.filters(images)) for images in (restored, blurred))
        half = self.psf_size // 2
        # Room for what moves out of the image, so that circular convolution is linear there.
        shape = tuple(max(side, half) + half + 1 for side in x.shape[-2:])
        fx, fy = torch.fft.rfft2(x, s=shape), torch.fft.rfft2(y, s=shape)
        rough = window(solve_psf(fx, fy, self.log_ridge.exp().to(x.dtype), shape), self.psf_size)
        rough = rough / (rough.amax((-2, -1), keepdim=True) + 1e-4)
        logits = self.cleaner(rough.to(blurred.dtype)) + (self.sharpness * rough).sum(1, keepdim=True)
        return F.softmax(full(logits).flatten(1), dim=1).view(-1, 1, self.psf_size, self.psf_size)
