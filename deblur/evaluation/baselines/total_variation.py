"""Total-variation deconvolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur.blur.psf import good_size
from deblur.errors import check_number
from deblur.evaluation.baselines.base import Baseline
from deblur.models.fourier import laplacian, transfer_function

# Penalties on the three splits and the over-relaxation: on blurred digits at noise 0, 0.01 and 0.03, of those tried,
# the ones that brought the objective to within 1e-4 of its minimum the soonest, in 50 to 100 iterations.
_ITERATIONS = 100
_BLUR_PENALTY, _RANGE_PENALTY = 1.0, 0.1
_LARGEST_SHRINK = 0.1  # of the gradient, in one iteration: weight / penalty
_RELAXATION = 1.8


class TotalVariation(Baseline):
    """Total-variation deconvolution: x = argmin 1/2 |k * x - y|^2 + weight TV(x), over images x in [0, 1].

    TV is the isotropic total variation, the sum over pixels of the length of the forward difference. `k * x` is
    compared with y inside the frame only, and what lies outside follows `padding`: for `zeros`, x is 0 there (the
    step at the frame's edge counts in TV); for `circular`, x is periodic; for `reflect`, x is unknown in a margin of
    the PSF's reach and restored along with the rest, which assumes nothing about it but a small TV.

    Solved by ADMM with the splits v = k * x, d = grad x and z = x, each of which is easy alone: x in Fourier space,
    v, d and z pixel by pixel.

    Sources: L. Rudin, S. Osher and E. Fatemi, Physica D 1992 (the model); Y. Wang, J. Yang, W. Yin and Y. Zhang, "A New
    Alternating Minimization Algorithm for Total Variation Image Reconstruction", SIAM J. Imaging Sciences 2008 (the
    split of the gradient); M. Almeida and M. Figueiredo, "Deconvolving Images With Unknown Boundaries Using the
    Alternating Direction Method of Multipliers", IEEE TIP 2013 (the split of the blur at the frame).

    Args:
        weight: of the total variation, > 0; more for more noise.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    name = "Total variation (true PSF)"
    parameter = "weight"
    grid = (1e-5, 3e-5, 1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 1e-2, 3e-2)

    def __init__(self, weight: float) -> None:
        super().__init__(check_number("weight", weight, above=0.0))

    @classmethod
    def sweep(
        cls, blurred: Tensor, psf: Tensor, padding: str, values: Sequence[float]
    ) -> Iterator[tuple[float, Tensor]]:
        height, width = blurred.shape[-2:]
        # The canvas is a periodic grid with the frame at its origin: the margin surrounds it on all sides.
        margin = 0 if padding == "circular" else psf.shape[-1] - 1
        shape = (height, width) if padding == "circular" else (good_size(height + margin), good_size(width + margin))
        border = (0, shape[1] - width, 0, shape[0] - height)
        frame = F.pad(torch.ones_like(blurred[:1, :1], dtype=torch.bool), border)
        support = frame if padding == "zeros" else torch.ones_like(frame)
        canvas = F.pad(blurred, border, mode="replicate" if padding == "reflect" else "constant")
        transfer, roughness = transfer_function(psf, shape), laplacian(shape, blurred)
        for weight in values:
            restored = _minimise(canvas, transfer, roughness, frame, support.to(blurred), weight)
            yield weight, restored[..., :height, :width]


def _minimise(
    observed: Tensor, transfer: Tensor, roughness: Tensor, frame: Tensor, support: Tensor, weight: float
) -> Tensor:
    """The minimiser by ADMM in its scaled form; `*_dual` are the scaled multipliers of the three splits."""
    shape = observed.shape[-2:]
    gradient_penalty = weight / _LARGEST_SHRINK
    matched = _BLUR_PENALTY * transfer.conj()
    inverse = 1 / (_BLUR_PENALTY * transfer.abs().square() + gradient_penalty * roughness + _RANGE_PENALTY)

    blur, ranged = observed, observed.clamp(0, 1) * support
    gradient = _gradient(ranged)
    blur_dual, ranged_dual, gradient_dual = torch.zeros_like(blur), torch.zeros_like(blur), torch.zeros_like(gradient)
    for _ in range(_ITERATIONS):
        source = gradient_penalty * _gradient_adjoint(gradient - gradient_dual) + _RANGE_PENALTY * (
            ranged - ranged_dual
        )
        spectrum = (matched * torch.fft.rfft2(blur - blur_dual) + torch.fft.rfft2(source)) * inverse
        image = torch.fft.irfft2(spectrum, s=shape)
        image_blur = torch.fft.irfft2(spectrum * transfer, s=shape)

        wanted = torch.lerp(blur, image_blur, _RELAXATION) + blur_dual
        blur = torch.where(frame, (observed + _BLUR_PENALTY * wanted) / (1 + _BLUR_PENALTY), wanted)
        blur_dual = wanted - blur

        wanted = torch.lerp(ranged, image, _RELAXATION) + ranged_dual
        ranged = wanted.clamp(0, 1) * support
        ranged_dual = wanted - ranged

        wanted = torch.lerp(gradient, _gradient(image), _RELAXATION) + gradient_dual
        lengths = wanted.square().sum(dim=0).sqrt_()
        # What shrinking takes off is the dual: the vector itself where it is short, else one of the largest length.
        gradient_dual = wanted * (_LARGEST_SHRINK / lengths.clamp_(min=_LARGEST_SHRINK))
        gradient = wanted - gradient_dual
    return ranged


def _gradient(images: Tensor) -> Tensor:
    """Forward differences along y and x on the periodic grid, (2, B, C, H, W)."""
    return torch.stack([images.roll(-1, -2) - images, images.roll(-1, -1) - images])


def _gradient_adjoint(fields: Tensor) -> Tensor:
    """The adjoint of `_gradient`, (B, C, H, W): minus the divergence."""
    along_y, along_x = fields
    return along_y.roll(1, -2) - along_y + along_x.roll(1, -1) - along_x
