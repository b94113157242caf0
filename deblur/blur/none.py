"""No motion at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deblur.blur.base import Blur, Motion
from deblur.blur.camera import Camera


class NoBlur(Blur):
    """No motion, only what the camera and its noise add: for pairs that a camera has blurred, or to remove noise.

    Args:
        noise, camera: see `Blur`.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, *, noise: float | Sequence[float] = 0.0, camera: Camera | None = None) -> None:
        super().__init__(noise=noise, camera=camera)

    @property
    def reach(self) -> int:
        return 0

    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        psf = torch.ones(batch_size, 1, 1, 1, device=generator.device)
        noise = self._draw_noise(batch_size, generator)
        return Motion(psf, None, noise, self._draw_camera(batch_size, generator))
