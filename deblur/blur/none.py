"""No motion at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deblur.blur.base import Blur, Motion


class NoBlur(Blur):
    """Sharp images as they are, but for the sensor's noise: for pairs that a camera has blurred, or to remove noise.

    Args:
        noise: see `Blur`.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, *, noise: float | Sequence[float] = 0.0) -> None:
        super().__init__(noise=noise)

    @property
    def reach(self) -> int:
        return 0

    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        psf = torch.ones(batch_size, 1, 1, 1, device=generator.device)
        return Motion(psf, None, self._draw_noise(batch_size, generator))
