"""The sRGB transfer function, both ways: from stored values to light, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_decode(encoded: Tensor) -> Tensor:
    """The linear light of sRGB values, white being 1; exact and piecewise as in IEC 61966-2-1."""
    curved = ((encoded.clamp(min=0) + 0.055) / 1.055).pow_(2.4)
    return torch.where(encoded <= 0.04045, encoded / 12.92, curved)


def srgb_encode(light: Tensor) -> Tensor:
    """The sRGB values of linear light, white being 1: the inverse of `srgb_decode`."""
    curved = light.clamp(min=0).pow_(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(light <= 0.0031308, light * 12.92, curved)
