"""Straight motion: a panning camera, or an object that moves during the exposure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deblur.blur.base import PathBlur
from deblur.blur.random import uniform
from deblur.errors import check_range


class Line(PathBlur):
    """Motion along a straight line at constant speed.

    Args:
        length: arc length in pixels, or `[min, max]`.
        angle: direction of motion in degrees, 0 to the right and 90 downwards; `[min, max]` for a uniformly random
            one; None for any direction.
        **common: see `PathBlur`.

    Example:
        >>> blur = Line(length=9, angle=0)
        >>> motion = blur.draw(1, (28, 28), torch.Generator().manual_seed(0))
        >>> motion.psf.shape
        torch.Size([1, 1, 11, 11])
    """

    def __init__(
        self, length: float | Sequence[float] = 9.0, angle: float | Sequence[float] | None = None, **common: Any
    ) -> None:
        super().__init__(length, **common)
        self.angle = (0.0, 360.0) if angle is None else check_range("angle", angle, low=-360.0, high=360.0)

    def draw_paths(self, batch_size: int, generator: torch.Generator) -> Tensor:
        angle = uniform(batch_size, self.angle, generator) * (math.pi / 180)
        direction = torch.stack([angle.sin(), angle.cos()], dim=-1)
        time = torch.linspace(0, 1, self.points, device=generator.device)
        return time[:, None] * direction[:, None]
