"""A network that estimates a photograph's PSF inside itself, first at half resolution, and deconvolves with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur.blur.psf import good_size
from deblur.errors import check_integer
from deblur.models.estimates import Estimates
from deblur.models.fourier import continued, full, power, solve_psf, transfer_function, window
from deblur.models.small_unet import ResidualBlock, SmallUNet, check_estimate, check_pair, check_unet
from deblur.models.wiener import WienerFilters


class CoarseToFine(nn.Module):
    """Blind deconvolution of photographs, unrolled: from coarse to fine, estimate the PSF and restore with it.

    A blurred image is y = k * x with one PSF k for the whole image; its scene x goes on beyond the image. The first
    stages work on the mean of the channels at half resolution, where the blur is half as long and an image has a
    quarter of the pixels: a small U-Net makes a first x of y alone. Each stage then (1) solves k * x = y for k by
    regularised least squares, (2) makes a PSF (non-negative, of sum near 1, at full resolution in every stage) of the
    solutions, the autocorrelation of y's differences and the PSF before, by a network, (3) deconvolves y with k by
    Wiener filters of several learned strengths, and (4) restores x again from x, y, the deconvolved images and the
    misfit y - k * x. What the coarse stages changed is then added to all channels of y at full resolution, and the fine
    stages go on from there. All of it is trained end to end, by the loss of the last image and, if `module` says so,
    those of the images and PSFs before it.

    Least squares work on differences of the pixels along both axes, which even out the spectrum, faded out towards the
    borders, where light comes in from outside. They and the way from coarse to fine are those of S. Cho and S. Lee,
    "Fast Motion Deblurring", SIGGRAPH Asia 2009; that they are one layer of a network is from C. J. Schuler, M. Hirsch,
    S. Harmeling and B. Schoelkopf, "Learning to Deblur", IEEE TPAMI 2016; that the autocorrelation of a blurred image's
    differences is near that of its PSF, from A. Goldstein and R. Fattal, "Blur-Kernel Estimation from Spectral
    Irregularities", ECCV 2012.

    Args:
        channels: channels of the images; they share the PSF, which is found from their mean.
        stages: how often the PSF is estimated at half and at full resolution, each at least once.
        widths: feature maps of the U-Nets at full resolution, on their two levels; see `SmallUNet`.
        blocks: residual blocks of the same.
        coarse_widths, coarse_blocks: the same of the U-Nets at half resolution.
        psf_size: side of the window that the PSF is estimated in, a multiple of 4.
        psf_width: feature maps of the networks that make the PSF.
        psf_hidden: hidden units of the same, which see the whole window.
        filters: Wiener filters of a stage.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        channels: int = 1,
        stages: Sequence[int] = (1, 1),
        widths: Sequence[int] = (16, 48),
        blocks: Sequence[int] = (1, 1),
        coarse_widths: Sequence[int] = (16, 64),
        coarse_blocks: Sequence[int] = (1, 2),
        psf_size: int = 24,
        psf_width: int = 32,
        psf_hidden: int = 128,
        filters: int = 3,
    ) -> None:
        super().__init__()
        check_integer("channels", channels, low=1)
        check_pair("stages", stages, 1, "at half and at full resolution")
        check_unet(widths, blocks)
        check_unet(coarse_widths, coarse_blocks, "coarse_")
        check_estimate(psf_size, psf_width, psf_hidden, filters)
        psf = (psf_size, psf_width, psf_hidden)
        self.first = SmallUNet(1, 1, coarse_widths, coarse_blocks)
        self.coarse = nn.ModuleList(
            _Stage(1, 2, coarse_widths, coarse_blocks, *psf, filters, again=number > 0) for number in range(stages[0])
        )
        self.fine = nn.ModuleList(
            _Stage(channels, 1, widths, blocks, *psf, filters, again=True) for _ in range(stages[1])
        )

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W), of any height and width."""
        return self.estimates(blurred).images[-1]

    def estimates(self, blurred: Tensor) -> Estimates:
        """The image of the first U-Net and of each stage, and each stage's PSF, (B, 1, psf_size, psf_size).

        Images at half resolution are (B, 1, ceil(H / 2), ceil(W / 2)): means of the channels of 2x2 pixels.
        """
        height, width = blurred.shape[-2:]
        y = F.pad(blurred, (0, -width % 8, 0, -height % 8), mode="replicate")
        grey = F.avg_pool2d(y.mean(1, keepdim=True), 2)
        images, psfs = [grey + self.first(grey)], []
        for stage in self.coarse:
            image, psf = stage(images[-1], grey, psfs[-1] if psfs else None)
            images.append(image)
            psfs.append(psf)
        image = y + F.interpolate(images[-1] - grey, scale_factor=2.0, mode="bilinear", align_corners=False)
        images = [image[..., : (height + 1) // 2, : (width + 1) // 2] for image in images]
        for stage in self.fine:
            image, psf = stage(image, y, psfs[-1])
            images.append(image[..., :height, :width])
            psfs.append(psf)
        return Estimates(images, psfs)


class _Stage(nn.Module):
    """One estimate of the PSF and the restoration with it; see `CoarseToFine`.

    Args:
        channels: of its images.
        shrunk: how many pixels of the whole image make a side of one of its pixels, 1 or 2.
        again: whether there is an estimate before it.
    """

    def __init__(
        self,
        channels: int,
        shrunk: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        psf_size: int,
        psf_width: int,
        psf_hidden: int,
        filters: int,
        again: bool,
    ) -> None:
        super().__init__()
        self.shrunk = shrunk
        self.side = psf_size // shrunk  # of the PSF's window in the pixels of this stage
        self.log_ridge = nn.Parameter(torch.tensor([-6.0, -4.0, -2.5, -1.0]))  # in units of the mean power of x
        maps = (len(self.log_ridge) + 4) * 4 // shrunk**2 + 4 * again
        self.psf = _PSFNetwork(maps, psf_size, psf_width, psf_hidden)
        self.wiener = WienerFilters(filters)
        self.restore = SmallUNet((3 + filters) * channels, channels, widths, blocks)

    def forward(self, x: Tensor, y: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next image from the image x and the blurred y, all (B, C, H, W), and the PSF between, at full resolution.

        Args:
            x, y: see above.
            before: the PSF (B, 1, psf_size, psf_size) of the stage before, where there is one.
        """
        solutions, autocorrelation = self.solved(full(x), full(y))
        psf = self.psf(*self.seen(solutions.to(y.dtype), autocorrelation.to(y.dtype), before))
        mine = psf if self.shrunk == 1 else halved(psf)
        seen = [x, y, self.wiener(y, mine), y - self.reblurred(full(x), full(mine)).to(y.dtype)]
        return x + self.restore(torch.cat(seen, dim=1)), psf

    def solved(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What solves k * x = y for each ridge, (B, 4, S, S), and the autocorrelation of y's differences, 1 at lag 0.

        The latter is (B, 1, 2S, 2S); S is the side of the PSF in pixels of this stage. Lags beyond S / 2 are mixed with
        those that the periodic grid wraps around, of the faded borders.
        """
        size = self.grid(x)
        fx, fy = (torch.fft.rfft2(self.differences(image.mean(1, keepdim=True)), s=size) for image in (x, y))
        lags = torch.fft.irfft2(power(fy).sum(1, keepdim=True), s=size)
        lags = lags / (lags[..., :1, :1] + 1e-6)
        return window(solve_psf(fx, fy, self.log_ridge.exp(), size), self.side), window(lags, 2 * self.side)

    def seen(self, solutions: Tensor, lags: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the network for the PSF starts from and sees, the latter at half the PSF's resolution."""
        maps = [solutions, F.pixel_unshuffle(lags, 2) / 16]
        if self.shrunk == 1:
            maps = [F.pixel_unshuffle(each, 2) for each in maps]
        if before is None:
            start = doubled(solutions[:, 1:2])  # with the second ridge
        else:
            start = before
            maps.append(F.pixel_unshuffle(before, 2))
        return start, torch.cat(maps, dim=1)

    def reblurred(self, x: Tensor, psf: Tensor) -> Tensor:
        """k * x, of the size of x."""
        height, width = x.shape[-2:]
        size = self.grid(x)
        return torch.fft.irfft2(transfer_function(psf, size) * torch.fft.rfft2(continued(x, size)), s=size)[
            ..., :height, :width
        ]

    def grid(self, x: Tensor) -> tuple[int, int]:
        """The size of a periodic grid with room for what moves out of the image."""
        half = self.side // 2
        return tuple(good_size(max(n, 2 * self.side) + half) for n in x.shape[-2:])

    def differences(self, images: Tensor) -> Tensor:
        """Differences to the next pixel down and to the right, faded out towards the borders, (B, 2 * C, H, W)."""
        down = F.pad(images[..., 1:, :] - images[..., :-1, :], (0, 0, 0, 1))
        right = F.pad(images[..., 1:] - images[..., :-1], (0, 1))
        fades = []
        for side in images.shape[-2:]:
            place = torch.arange(side, device=images.device, dtype=images.dtype)
            depth = torch.minimum(place, side - 1 - place) + 0.5
            fades.append((2 * depth / self.side).clamp(max=1).mul(torch.pi / 2).sin().square())
        return torch.cat([down, right], dim=1) * fades[0][:, None] * fades[1]


def halved(psf: Tensor) -> Tensor:
    """The PSFs of images at half resolution, (B, 1, K / 2, K / 2) of (B, 1, K, K), K a multiple of 4.

    Every second pixel, with half of its neighbours': the sum stays and the centroid halves, but for the last row and
    column, half of which falls outside.
    """
    return 4 * F.avg_pool2d(F.avg_pool2d(F.pad(psf, (1, 0, 1, 0)), 2, stride=1), 2)


def doubled(psf: Tensor) -> Tensor:
    """The PSFs of images at twice the resolution, (B, 1, 2K, 2K), their new pixels linear between the old ones.

    The transpose of `halved` but for a factor: the sum stays and the centroid doubles.
    """
    side = psf.shape[-1]
    grown = F.interpolate(F.pad(psf, (0, 1, 0, 1)), size=2 * side + 1, mode="bilinear", align_corners=True)
    return grown[..., :-1, :-1] / 4


class _PSFNetwork(nn.Module):
    """A U-Net of two levels that makes a PSF, (B, 1, K, K), of maps at half its resolution, (B, maps, K / 2, K / 2).

    In its middle a perceptron sees the whole window.
    """

    def __init__(self, maps: int, size: int, width: int, hidden: int) -> None:
        super().__init__()
        low, pixels = 2 * width, (size // 4) ** 2
        self.stem = nn.Conv2d(maps, width, 3, padding=1)
        self.encoder = ResidualBlock(width)
        self.down = nn.Conv2d(width, low, 2, stride=2)
        self.before = ResidualBlock(low)
        self.whole = nn.Sequential(
            nn.Flatten(),
            nn.Linear(low * pixels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, low * pixels),
            nn.Unflatten(1, (low, size // 4, size // 4)),
        )
        self.after = ResidualBlock(low)
        self.up = nn.Conv2d(low, 4 * width, 1)
        self.decoder = ResidualBlock(width)
        self.head = nn.Conv2d(width, 4, 3, padding=1)
        with torch.no_grad():
            self.head.weight.mul_(0.3)

    def forward(self, start: Tensor, maps: Tensor) -> Tensor:
        """The PSF, (B, 1, K, K), near `start`, which has its shape."""
        x = self.encoder(self.stem(8 * maps))
        low = self.before(self.down(x))
        low = self.after(low + self.whole(low))
        x = self.decoder(x + F.pixel_shuffle(self.up(low), 2))
        psf = F.relu(start + F.pixel_shuffle(self.head(x), 2) / 8)
        return psf / (psf.sum((-2, -1), keepdim=True) + 1e-3)
