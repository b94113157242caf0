"""Losses beside those of torch.nn."""

from __future__ import annotations

from torch import Tensor, nn

from deblur.errors import check_number


class Charbonnier(nn.Module):
    """Mean of sqrt(difference^2 + epsilon^2): L1 with a rounded tip.

    Source: P. Charbonnier et al., "Two Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging",
    ICIP 1994; as a restoration loss W.-S. Lai et al., CVPR 2017.

    Args:
        epsilon: radius of the tip, in units of the image range [0, 1].
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = check_number("epsilon", epsilon, above=0.0)

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        return (restored - sharp).square().add(self.epsilon**2).sqrt().mean()
