"""A network that estimates the blur's PSF inside itself and deconvolves with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur.errors import check_integer
from deblur.models.estimates import Estimates
from deblur.models.fourier import full, power, solve_psf, transfer_function, window
from deblur.models.small_unet import SmallUNet, check_estimate, check_unet


class BlindDeconvolver(nn.Module):
    """Blind deconvolution, unrolled: restore, estimate the PSF, deconvolve with it, restore again.

    For scenes that end in the image, as digits do; `CoarseToFine` is for photographs.

    A blurred image is y = k * x with one PSF k for the whole image. A small U-Net makes a first x of y alone. Each
    stage then (1) solves k * x = y for k by regularised least squares in the Fourier domain, (2) cleans k, beside the
    stage's before, with a small network and makes it a PSF (non-negative, of sum near 1), (3) fills what moved out of
    the image with k * x, (4) deconvolves y with k by Wiener filters of several strengths, and (5) restores x again from
    x, y, the deconvolved images and the misfit y - k * x. The strengths are learned; all of it is trained end to end,
    by the loss of the last image and, if `module` says so, those of the images and PSFs before it. After C. J. Schuler,
    M. Hirsch, S. Harmeling and B. Schoelkopf, "Learning to Deblur", IEEE TPAMI 2016 (the quotient layer); for the U-Net
    see `SmallUNet`.

    Args:
        channels: channels of the images; they share the PSF.
        widths: feature maps of the U-Nets at half and at quarter resolution.
        blocks: residual blocks at half resolution (before and again after), at quarter resolution.
        first_widths, first_blocks: the same of the first U-Net, which has no PSF yet.
        stages: how often the PSF is estimated; 0 is the first U-Net alone.
        psf_size: side of the window that the PSF is estimated in, a multiple of 4.
        psf_width, psf_hidden: feature maps and hidden units of the networks that clean the PSF.
        filters: Wiener filters of a stage.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (16, 48),
        blocks: Sequence[int] = (1, 1),
        first_widths: Sequence[int] = (16, 48),
        first_blocks: Sequence[int] = (1, 1),
        stages: int = 2,
        psf_size: int = 24,
        psf_width: int = 12,
        psf_hidden: int = 64,
        filters: int = 3,
    ) -> None:
        super().__init__()
        check_integer("channels", channels, low=1)
        check_integer("stages", stages, low=0)
        check_unet(widths, blocks)
        check_unet(first_widths, first_blocks, "first_")
        check_estimate(psf_size, psf_width, psf_hidden, filters)
        self.first = SmallUNet(channels, channels, first_widths, first_blocks)
        self.stages = nn.ModuleList(
            _Stage(channels, widths, blocks, psf_size, psf_width, psf_hidden, filters, again=number > 0)
            for number in range(stages)
        )

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W), of any height and width."""
        return self.estimates(blurred).images[-1]

    def estimates(self, blurred: Tensor) -> Estimates:
        """The image of the first U-Net and of each stage, and each stage's PSF, (B, 1, psf_size, psf_size)."""
        height, width = blurred.shape[-2:]
        y = F.pad(blurred, (0, -width % 4, 0, -height % 4))
        images, psfs = [y + self.first(y)], []
        for stage in self.stages:
            image, psf = stage(images[-1], y, psfs[-1] if psfs else None)
            images.append(image)
            psfs.append(psf)
        return Estimates([image[..., :height, :width] for image in images], psfs)


class _Stage(nn.Module):
    """One estimate of the PSF and the restoration with it, the first or `again`; see `BlindDeconvolver`."""

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        psf_size: int,
        psf_width: int,
        psf_hidden: int,
        filters: int,
        again: bool,
    ) -> None:
        super().__init__()
        self.half = psf_size // 2
        self.log_ridge = nn.Parameter(torch.tensor([-5.0, -2.0]))  # in units of the mean power of x
        self.cleaner = _PSFCleaner(len(self.log_ridge) + again, psf_size, psf_width, psf_hidden)
        self.log_noise = nn.Parameter(torch.linspace(-8.0, -3.0, filters))  # of the Wiener filters
        self.restore = SmallUNet((3 + filters) * channels, channels, widths, blocks)

    def forward(self, x: Tensor, y: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next image from the image x and the blurred y, all (B, C, H, W), and the PSF (B, 1, K, K) between.

        Args:
            x, y: see above.
            before: the PSF of the stage before, where there is one.
        """
        height, width = y.shape[-2:]
        # Room for what moves out of the image, so that circular convolution is linear there: (B, C, *size).
        size = tuple(max(n, self.half) + self.half for n in (height, width))
        rough = self.rough(full(x), full(y), size).to(y.dtype)
        psf = self.cleaner(rough if before is None else torch.cat([rough, before], dim=1))  # (B, 1, K, K)
        sharp, reblurred = (made.to(y.dtype) for made in self.deconvolve(full(x), full(y), full(psf), size))
        return x + self.restore(torch.cat([x, y, sharp, y - reblurred], dim=1)), psf

    def rough(self, x: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
        """PSFs that solve k * x = y for each ridge, (B, 2, K, K)."""
        fx, fy = torch.fft.rfft2(x, s=size), torch.fft.rfft2(y, s=size)
        return window(solve_psf(fx, fy, self.log_ridge.exp(), size), 2 * self.half)

    def deconvolve(self, x: Tensor, y: Tensor, psf: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What each filter makes of y, (B, filters * C, H, W), and k * x, (B, C, H, W)."""
        height, width = y.shape[-2:]
        fk = transfer_function(psf, size)
        reblurred = torch.fft.irfft2(fk * torch.fft.rfft2(x, s=size), s=size)
        inside = reblurred[..., :height, :width]
        whole = reblurred + F.pad(y - inside, (0, size[1] - width, 0, size[0] - height))  # y, and beyond it k * x
        filters = fk.conj() / (power(fk) + self.log_noise.exp().view(1, -1, 1, 1))  # (B, filters, ...)
        sharp = torch.fft.irfft2(filters.unsqueeze(2) * torch.fft.rfft2(whole).unsqueeze(1), s=size)
        return sharp[..., :height, :width].flatten(1, 2), inside


class _PSFCleaner(nn.Module):
    """From rough estimates of a PSF, (B, estimates, K, K), to one PSF, (B, 1, K, K)."""

    def __init__(self, estimates: int, size: int, width: int, hidden: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * estimates, width, 3, padding=1)
        self.whole = nn.Sequential(
            nn.Flatten(),
            nn.Linear(estimates * size**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, width * (size // 4) ** 2),
            nn.Unflatten(1, (width, size // 4, size // 4)),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )
        self.head = nn.Conv2d(width, 4, 3, padding=1)
        with torch.no_grad():
            self.head.weight.mul_(0.3)

    def forward(self, rough: Tensor) -> Tensor:
        features = self.stem(F.pixel_unshuffle(8 * rough, 2)) + self.whole(8 * rough)
        psf = F.relu(rough[:, :1] + F.pixel_shuffle(self.head(F.relu(features)), 2) / 8)
        return psf / (psf.sum((-2, -1), keepdim=True) + 1e-3)
