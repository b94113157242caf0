"""What the classical baselines have in common: one parameter, a sweep over it, restoring in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from deblur.blur.psf import PADDINGS
from deblur.errors import ArgumentError, check_choice

# Pixels worked on at once: on the CPU few enough to stay in its cache, elsewhere enough to keep the device busy.
_CPU_CHUNK, _DEVICE_CHUNK = 2**16, 2**23


class Baseline(ABC):
    """Deconvolution with the true PSF of each image, governed by one parameter.

    Args:
        value: the parameter; subclasses call it by its name and check it.

    Attributes:
        name: for tables.
        parameter: what the value is called.
        grid: values to choose from, ascending.
    """

    name: ClassVar[str]
    parameter: ClassVar[str]
    grid: ClassVar[tuple[float, ...]]

    def __init__(self, value: float) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameter}={self.value:g})"

    @classmethod
    @abstractmethod
    def sweep(
        cls, blurred: Tensor, psf: Tensor, padding: str, values: Sequence[float]
    ) -> Iterator[tuple[float, Tensor]]:
        """(value, restored) for each of the values, ascending; work that they share is done once.

        The restored images are (B, C, H, W), not clamped. Arguments as for `restore`, already checked, of a batch
        that may be worked on at once.
        """

    @torch.no_grad()
    def restore(
        self, blurred: Tensor, psf: Tensor, padding: str = "zeros", advance: Callable[[int], object] | None = None
    ) -> Tensor:
        """The restored images, (B, C, H, W) in [0, 1], on the device of the blurred ones.

        Args:
            blurred: (B, C, H, W) floats, of images in [0, 1]; noise may lead beyond.
            psf: (B, 1, K, K), K odd, non-negative, each sums to 1; it serves all channels of its image.
            padding: what lay outside the sharp images when they were blurred: `zeros`, `circular`, or `reflect`, which
                serves photographs cut from a scene too. How it is modelled, see the class.
            advance: called with the number of images done since its last call: a progress bar.

        Raises:
            ArgumentError: an argument is out of its range.
        """
        blurred, psf = check_inputs(blurred, psf, padding)
        restored = torch.empty_like(blurred)
        for chunk in chunks(blurred, psf):
            ((_, images),) = self.sweep(blurred[chunk], psf[chunk], padding, (self.value,))
            restored[chunk] = images.clamp(0, 1)
            if advance is not None:
                advance(len(chunk))
        return restored


def check_inputs(blurred: Tensor, psf: Tensor, padding: str) -> tuple[Tensor, Tensor]:
    """The images and their PSFs in one precision, single at least, on the images' device.

    Raises:
        ArgumentError: a shape or a value is not allowed; see `Baseline.restore`.
    """
    check_choice("padding", padding, PADDINGS)
    if blurred.ndim != 4 or 0 in blurred.shape or not blurred.is_floating_point():
        raise ArgumentError("blurred", _described(blurred), "floats of shape (B, C, H, W), none of them 0")
    size = psf.shape[-1] if psf.ndim == 4 else 0
    if size % 2 == 0 or psf.shape != (len(blurred), 1, size, size) or not psf.is_floating_point():
        raise ArgumentError("psf", _described(psf), f"floats of shape ({len(blurred)}, 1, K, K) with K odd")
    if padding != "zeros" and size > min(blurred.shape[-2:]):
        raise ArgumentError("psf", f"{size}x{size} pixels", f"at most {min(blurred.shape[-2:])}, the image's side")
    if not torch.isfinite(blurred).all():
        raise ArgumentError("blurred", "not finite", "finite")
    blurred = blurred.to(torch.promote_types(blurred.dtype, torch.float32))
    psf = psf.to(blurred)
    mass = psf.sum(dim=(1, 2, 3))
    if not ((mass - 1).abs() <= 1e-3).all() or (psf < 0).any():
        sums = f"sums from {mass.min():.6g} to {mass.max():.6g}, smallest value {psf.min():.6g}"
        raise ArgumentError("psf", sums, "non-negative, each with the sum 1")
    return blurred, psf


def chunks(blurred: Tensor, psf: Tensor) -> Iterator[Tensor]:
    """Indices of the images that are worked on at once, in chunks that together hold all images.

    PSFs of similar reach go together, so that those of a chunk can be trimmed to few pixels.
    """
    pixels = _CPU_CHUNK if blurred.device.type == "cpu" else _DEVICE_CHUNK
    order = reach(psf).argsort(stable=True)
    yield from order.split(max(1, pixels // blurred[0].numel()))


def reach(psf: Tensor) -> Tensor:
    """The distance in pixels, (B,), along y or x, of the farthest pixel of each PSF (B, 1, K, K) that is not 0."""
    size = psf.shape[-1]
    used = torch.maximum(psf.amax(dim=(1, 2)), psf.amax(dim=(1, 3))) > 0  # (B, K): of a row or its column
    distance = (torch.arange(size, device=psf.device) - size // 2).abs()
    return (used * distance).amax(dim=1)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {'x'.join(map(str, tensor.shape))}"
