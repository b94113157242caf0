"""PSNR, SSIM and MSE of each image, the correlation of PSFs, and means over images."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torchmetrics import Metric

from deblur.metric_names import NAMES, PSF_CORRELATION

HIGHEST_PSNR = 100.0  # dB, of an exact image: no infinity reaches a file

# Values of the images whose structure is compared at once: what stays in the cache, or in about a gigabyte of a GPU.
_CPU_PIXELS, _GPU_PIXELS = 2**17, 2**22


def image_metrics(images: Tensor, sharp: Tensor) -> dict[str, Tensor]:
    """`psnr` (dB, at most 100), `ssim` and `mse` of each image, (B,) each; both sides are clamped to [0, 1] first.

    Args:
        images: (B, C, H, W), the images to judge.
        sharp: (B, C, H, W), the truth.
    """
    images, sharp = images.float().clamp(0, 1), sharp.float().clamp(0, 1)
    mse = (images - sharp).square().mean(dim=(1, 2, 3))
    with torch.autocast(images.device.type, enabled=False):  # else mixed precision would round the metric itself
        return {"psnr": psnr_of(mse), "ssim": ssim(images, sharp), "mse": mse}


def psnr_of(mse: Tensor) -> Tensor:
    """The peak signal-to-noise ratio in dB for a mean squared error of images in [0, 1], at most 100."""
    return mse.log10().mul(-10).clamp(max=HIGHEST_PSNR)


def ssim(images: Tensor, sharp: Tensor) -> Tensor:
    """The structural similarity of each pair of images in [0, 1], (B,).

    Source: Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 2004:
    an 11x11 Gaussian window of sigma 1.5, here with mirrored borders and the mean over the whole image, as in
    torchmetrics. The window is separable and the mirroring linear, so filtering is two matrix products; the sum of the
    variances needs one filtered image, not two; and few images at a time stay in a processor's cache: about forty
    times as fast as the convolution on digits.

    Args:
        images, sharp: (B, C, H, W) in [0, 1].
    """
    most = _CPU_PIXELS if images.device.type == "cpu" else _GPU_PIXELS
    count = max(1, most // max(1, images[:1].numel()))
    return torch.cat([_ssim(x, y) for x, y in zip(images.split(count), sharp.split(count), strict=True)])


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    if x.is_cuda:  # where a training may round products to TF32, too rough for the differences below
        x, y = x.double(), y.double()
    rows, columns = (_gaussian_filter(size, x.device).to(x.dtype) for size in (height, width))
    moments = torch.stack([x, y, x * x + y * y, x * y])
    filtered = rows @ (moments.reshape(-1, width) @ columns.mT).view(-1, height, width)
    mean_x, mean_y, mean_squares, mean_product = filtered.view(moments.shape)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * (mean_product - product) + c2) / ((mean_squares - squares).clamp(min=0) + c2)
    luminance = (2 * product + c1) / (squares + c1)
    return (luminance * structure).mean(dim=(1, 2, 3)).float()


def psf_correlation(found: Tensor, true: Tensor) -> Tensor:
    """How alike PSFs are wherever they lie, (B,), from 0 to 1: the largest of their normalised cross-correlation.

    The kernel similarity of Z. Hu and M.-H. Yang, "Good Regions to Deblur", ECCV 2012: the maximum over shifts s of
    sum_u k(u) k'(u + s) / (|k| |k'|). Blind deblurring knows image and PSF only up to opposite shifts.

    Args:
        found: (B, 1, K, K), non-negative.
        true: (B, 1, M, M), of any other size.
    """
    found, true = found.float(), true.float()
    shape = [found.shape[-1] + true.shape[-1] - 1] * 2  # no shift wraps
    products = torch.fft.irfft2(torch.fft.rfft2(found, s=shape) * torch.fft.rfft2(true, s=shape).conj(), s=shape)
    norms = found.flatten(1).norm(dim=1) * true.flatten(1).norm(dim=1)
    return (products.flatten(1).amax(1) / norms.clamp(min=1e-12)).clamp(0, 1)


@lru_cache(maxsize=16)
def _gaussian_filter(size: int, device: torch.device, sigma: float = 1.5, radius: int = 5) -> Tensor:
    """The (size, size) matrix that filters a line of pixels, mirrored at its ends without the edge pixel."""
    with torch.inference_mode(False):  # it is kept for callers of any mode
        return _make_filter(size, sigma, radius).to(device)


def _make_filter(size: int, sigma: float, radius: int) -> Tensor:
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    window = (-offsets.square() / (2 * sigma**2)).exp()
    window /= window.sum()
    period = max(2 * (size - 1), 1)
    sources = (torch.arange(size)[:, None] + offsets.long()) % period
    sources = torch.minimum(sources, period - sources)
    weights = torch.zeros(size, size, dtype=torch.float64)
    return weights.scatter_add_(1, sources, window.expand(size, -1)).float()


class RestorationMetrics(Metric):
    """Means over images of PSNR, SSIM and MSE, each for restored and blurred images, and the gain in PSNR.

    Keeps the value of every image, so that the means are the same to rounding for any batches and processes.

    Args:
        psf: whether the correlation of PSFs may be given, too.

    Attributes:
        images: how many images the last means are over.
    """

    full_state_update = False

    def __init__(self, psf: bool = False) -> None:
        super().__init__()
        self.images = 0
        self._kept = (*NAMES[:-1], PSF_CORRELATION) if psf else NAMES[:-1]
        for name in self._kept:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, restored: Tensor, blurred: Tensor, sharp: Tensor, correlation: Tensor | None = None) -> None:
        """Take in a batch, (B, C, H, W) each, and the correlation of its PSFs, (B,)."""
        for suffix, images in (("", restored), ("_blurred", blurred)):
            for name, values in image_metrics(images, sharp).items():
                getattr(self, name + suffix).append(values)
        if correlation is not None:
            getattr(self, PSF_CORRELATION).append(correlation)

    def compute(self) -> dict[str, float]:
        """The means by name: `psnr`, `ssim`, `mse`, the same with `_blurred`, `psnr_gain`, and `psf_correlation`."""
        means = {}
        for name in self._kept:
            values = getattr(self, name)
            if len(values) == 0:
                continue
            values = torch.cat(values) if isinstance(values, list) else values
            means[name] = values.cpu().double().mean().item()
            self.images = len(values)
        found = {PSF_CORRELATION: means.pop(PSF_CORRELATION)} if PSF_CORRELATION in means else {}
        return means | {"psnr_gain": means["psnr"] - means["psnr_blurred"]} | found
