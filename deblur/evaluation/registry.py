"""The metrics by name: what computes them, which values are better, how they are shown, and what they apply to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deblur.errors import ArgumentError, check_choice
from deblur.evaluation import multiscale, perceptual
from deblur.evaluation.alignment import aligned_psnr
from deblur.evaluation.frequency import SMALLEST, Bands, bands, frequency_metrics
from deblur.evaluation.legibility import legibility
from deblur.evaluation.statistics import Direction
from deblur.metrics import PSF_CORRELATION, image_metrics, psf_correlation

DIGIT = (1, 28, 28)  # (C, H, W) that the classifier of digits reads


@dataclass(frozen=True)
class Truth:
    """What images are judged against; what several methods' images need of it is computed once.

    Attributes:
        sharp: (B, C, H, W), or (B, 1, K, K) where PSFs are judged.
        labels: (B,), the digits that the images show, where that is known.
    """

    sharp: Tensor
    labels: Tensor | None = None

    @cached_property
    def bands(self) -> Bands:
        """Of the sharp images, for the frequency metrics."""
        return bands(self.sharp)


Compute = Callable[[Tensor, Truth], dict[str, Tensor]]
Prepare = Callable[[torch.device], object]


@dataclass(frozen=True)
class Metric:
    """One metric of the evaluation.

    Attributes:
        name: as typed by the user and written to files.
        title: as shown in tables and figures.
        unit: of the values; empty for a pure number.
        direction: which values are better, `higher`, `lower` or `one` (the nearer to 1).
        digits: decimals to show.
        compute: images, (B, C, H, W), or PSFs, (B, 1, K, K), and the truth -> name -> (B,), this metric's among them.
        smallest: pixels of the shorter side that it needs.
        digits_only: it applies to MNIST's digits and needs their labels.
        photographs_only: it applies to images of 1 or 3 channels that are no digits, and only where it is asked for:
            its weights are a download.
        of_psfs: it judges not images but the PSFs that a network finds.
        prepare: sets up on a device what it needs there; called once, before threads compute it.
    """

    name: str
    title: str
    unit: str
    direction: Direction
    digits: int
    compute: Compute
    smallest: int = 1
    digits_only: bool = False
    photographs_only: bool = False
    of_psfs: bool = False
    prepare: Prepare | None = None

    def obstacle(self, image_shape: tuple[int, int, int], *, labelled: bool, psfs: bool = False) -> str | None:
        """Why it does not apply to images of (C, H, W), or None: it does.

        Args:
            image_shape: of the images.
            labelled: whether they are digits with labels.
            psfs: whether there are networks that find PSFs, and true ones.
        """
        if self.of_psfs and not psfs:
            finders = "task=kernel, model=deconvolver|coarse_to_fine"
            return f"it compares PSFs that a network finds ({finders}) with the true ones, and they are not both there"
        if self.digits_only and (not labelled or tuple(image_shape) != DIGIT):
            return "it reads MNIST's digits only"
        if self.photographs_only and (labelled or image_shape[0] not in (1, 3)):
            return "it judges grey and colour photographs only"
        if min(image_shape[1:]) < self.smallest:
            return f"it needs images of at least {self.smallest}x{self.smallest} pixels"
        return None


def _plain(images: Tensor, truth: Truth) -> dict[str, Tensor]:
    return image_metrics(images, truth.sharp)


def _frequency(images: Tensor, truth: Truth) -> dict[str, Tensor]:
    return frequency_metrics(images, truth.bands)


def _alone(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Compute:
    return lambda images, truth: {name: function(images, truth.sharp)}


def _legibility(images: Tensor, truth: Truth) -> dict[str, Tensor]:
    if truth.labels is None:
        raise ArgumentError("labels", None, "the digits that the images show")
    return {"legibility": legibility(images, truth.labels)}


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR", "dB", "higher", 2, _plain),
        Metric("psnr_aligned", "PSNR, best shift", "dB", "higher", 2, _alone("psnr_aligned", aligned_psnr), smallest=7),
        Metric("ssim", "SSIM", "", "higher", 4, _plain),
        Metric(
            "ms_ssim", "MS-SSIM", "", "higher", 4, _alone("ms_ssim", multiscale.ms_ssim), smallest=multiscale.SMALLEST
        ),
        Metric("mse", "MSE", "", "lower", 6, _plain),
        Metric("spectrum_error", "spectrum error", "dB", "lower", 2, _frequency, smallest=SMALLEST),
        Metric("high_frequency_ratio", "high-frequency energy", "", "one", 3, _frequency, smallest=SMALLEST),
        Metric("legibility", "legibility", "", "higher", 4, _legibility, digits_only=True),
        Metric(
            "lpips",
            "LPIPS",
            "",
            "lower",
            4,
            _alone("lpips", perceptual.lpips),
            smallest=perceptual.SMALLEST,
            photographs_only=True,
            prepare=perceptual.prepare,
        ),
        Metric(
            PSF_CORRELATION,
            "PSF correlation",
            "",
            "higher",
            4,
            _alone(PSF_CORRELATION, psf_correlation),
            of_psfs=True,
        ),
    )
}


def choose(
    names: Sequence[str] | None, image_shape: tuple[int, int, int], *, labelled: bool, psfs: bool = False
) -> list[Metric]:
    """The metrics of the names, in the registry's order; without names all that apply, but for those to be asked for.

    Args:
        names: of the metrics, or None.
        image_shape: (C, H, W) of the images to judge.
        labelled: whether they are digits with labels.
        psfs: whether there are networks that find PSFs.

    Raises:
        ArgumentError: a name is unknown (all are listed), or its metric does not apply to the images (says why).
    """
    if names is None:
        free = (metric for metric in METRICS.values() if not metric.photographs_only)
        return [metric for metric in free if metric.obstacle(image_shape, labelled=labelled, psfs=psfs) is None]
    for name in names:
        metric = METRICS[check_choice("metrics", name, METRICS)]
        obstacle = metric.obstacle(image_shape, labelled=labelled, psfs=psfs)
        if obstacle:
            shape = "x".join(map(str, image_shape))
            raise ArgumentError("metrics", name, f"left out for these images of {shape}: {obstacle}")
    return [metric for metric in METRICS.values() if metric.name in names]


def measure(metrics: Sequence[Metric], images: Tensor, truth: Truth) -> dict[str, Tensor]:
    """Each metric's values by name, (B,) each, on the images' device; what several metrics share is computed once.

    Args:
        metrics: of images, as `choose` gives them.
        images: (B, C, H, W), the images to judge, restored or blurred.
        truth: of as many images, with the labels where `legibility` is among the metrics.

    Raises:
        ArgumentError: the two sides differ in shape, or a metric does not apply to them.
        UsageError: a metric's weights cannot be had.
    """
    if images.shape != truth.sharp.shape or images.ndim != 4:
        raise ArgumentError("images", tuple(images.shape), f"of the sharp images' shape {tuple(truth.sharp.shape)}")
    values: dict[str, Tensor] = {}
    for compute in dict.fromkeys(metric.compute for metric in metrics):
        values |= compute(images, truth)
    return {metric.name: values[metric.name] for metric in metrics}
