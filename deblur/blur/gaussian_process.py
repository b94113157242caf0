"""Smooth random motion: both coordinates from a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deblur.blur.base import PathBlur
from deblur.blur.psf import product, running_sum
from deblur.errors import check_number

_NODES = 128  # nodes of the curve that is walked along


class GaussianProcess(PathBlur):
    """Trajectories whose y and x come from a Gaussian process with Matern-5/2 covariance.

    The curve is walked through at constant speed and scaled to the asked arc length (as measured on its 128 nodes).

    Source: C. Schuler, M. Hirsch, S. Harmeling and B. Schoelkopf, "Learning to Deblur", IEEE TPAMI 2015.

    Args:
        length: arc length in pixels, or `[min, max]`.
        scale: length scale of the covariance as a fraction of the exposure; small is restless.
        **common: see `PathBlur`.
    """

    def __init__(self, length: float | Sequence[float] = 9.0, scale: float = 0.3, **common: Any) -> None:
        super().__init__(length, **common)
        self.scale = check_number("scale", scale, low=0.02, high=100.0)
        self._root = matern_root(_NODES, self.scale)

    @torch.no_grad()
    def draw_paths(self, batch_size: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        noise = torch.randn(batch_size * 2, _NODES, generator=generator, device=device)
        curve = product(noise, self._root.to(device).mT).view(batch_size, 2, _NODES)
        pieces = torch.hypot(*curve.diff(dim=-1).unbind(1))
        walked = torch.cat([torch.zeros(batch_size, 1, device=device), running_sum(pieces)], dim=-1)
        total = walked[:, -1:]
        wanted = torch.linspace(0, 1, self.points, device=device) * total
        right = torch.searchsorted(walked, wanted).clamp_(1, _NODES - 1)
        before, after = walked.gather(1, right - 1), walked.gather(1, right)
        fraction = ((wanted - before) / (after - before).clamp(min=1e-12)).clamp_(0, 1).unsqueeze(1)
        index = right.unsqueeze(1).expand(-1, 2, -1)
        points = torch.lerp(curve.gather(2, index - 1), curve.gather(2, index), fraction)
        return ((points - points[..., :1]) / total.unsqueeze(1)).mT.contiguous()


def matern_root(points: int, scale: float) -> Tensor:
    """(points, points): times white noise it is a Gaussian process with Matern-5/2 covariance at times from 0 to 1.

    Args:
        points: equally spaced times.
        scale: length scale of the covariance.
    """
    time = torch.linspace(0, 1, points, dtype=torch.float64)
    distance = (time[:, None] - time).abs() * (math.sqrt(5) / scale)
    covariance = (1 + distance + distance**2 / 3) * (-distance).exp()
    # A root by eigenvectors: unlike Cholesky's it exists also where rounding makes the matrix singular.
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()).float()
