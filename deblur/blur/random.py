"""Random numbers that every blur draws."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    """`count` numbers, uniform between the bounds, on the generator's device."""
    low, high = bounds
    if low == high:
        return torch.full((count,), low, device=generator.device)
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low
