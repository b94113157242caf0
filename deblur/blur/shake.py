"""Hand shake: the random trajectory of a camera held during a long exposure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deblur.blur.base import PathBlur
from deblur.errors import check_integer, check_number

# Upper ends of the uniform distributions that a trajectory's own constants are drawn from, at anxiety 1.
_TURN = 2.5  # sigma: random turn of the heading over the exposure, radians
_PULL = 20.0  # kappa: pull back towards the start
_JUMPS = 2.0  # rho: expected number of abrupt reversals in an exposure


class Shake(PathBlur):
    """Hand-shake trajectories after Boracchi and Foi, in a form that does not depend on pixels or points.

    The point moves at constant speed; its heading theta starts uniform and follows, over the exposure s in [0, 1],

        d theta = sigma dW - kappa |x| sin(phi - theta) ds + jumps,

    where x is the position (in units of the length) seen from the start and phi its direction: a random turn, a pull
    back to the start, and jumps at rate rho that nearly reverse the heading (pi + U(-1/2, 1/2)). Each trajectory draws
    its own sigma ~ U(0, 2.5) rad, kappa ~ U(0, 20) and rho ~ U(0, 2), each times `anxiety`.

    Source: G. Boracchi and A. Foi, "Modeling the Performance of Image Restoration From Motion Blur", IEEE TIP 2012.

    Args:
        length: arc length in pixels, or `[min, max]`.
        anxiety: how restless the hand is; 0 gives straight lines.
        points: points of a trajectory; None for 32, or two a pixel of length if that is more.
        **common: see `PathBlur`.

    Example:
        >>> blur = Shake(length=9)
        >>> generator = torch.Generator().manual_seed(0)
        >>> motion = blur.draw(4, (28, 28), generator)
        >>> blur.apply(torch.rand(4, 1, 28, 28), motion).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(
        self,
        length: float | Sequence[float] = 9.0,
        anxiety: float = 1.0,
        points: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(length, **common)
        self.anxiety = check_number("anxiety", anxiety, low=0.0, high=1000.0)
        self._points = None if points is None else check_integer("points", points, low=2, high=100_000)

    @property
    def points(self) -> int:
        return self._points or super().points

    @torch.no_grad()
    def draw_paths(self, batch_size: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        moves = self.points - 1
        step = 1 / moves

        def random(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        turn = random(batch_size) * (_TURN * self.anxiety * math.sqrt(step))
        pull = random(batch_size) * (_PULL * self.anxiety * step * step)  # positions below are in steps, not lengths
        chance = 1 - (-_JUMPS * self.anxiety * step * random(batch_size)).exp()
        heading = random(batch_size) * (2 * math.pi)
        turns = torch.randn(moves, batch_size, generator=generator, device=device) * turn
        # One uniform number u decides both: a jump if u < chance, and then u / chance is again uniform.
        dice = random(moves, batch_size)
        turns += torch.where(dice < chance, dice / chance.clamp(min=1e-12) + (math.pi - 0.5), 0)

        # The pull needs |x| sin(phi - theta) = y cos(theta) - x sin(theta): no angle of x has to be found.
        path = torch.zeros(self.points, 2, batch_size, device=device)
        direction = torch.empty(2, batch_size, device=device)
        sine, cosine = direction
        torque = torch.empty(batch_size, device=device)
        positions, coordinates = path.unbind(), path.view(-1, batch_size).unbind()  # once: selecting costs as much
        for move, change in enumerate(turns.unbind()):
            if move:
                torch.mul(coordinates[2 * move], cosine, out=torque).addcmul_(coordinates[2 * move + 1], sine, value=-1)
                heading.add_(change).addcmul_(pull, torque, value=-1)
            torch.sin(heading, out=sine)
            torch.cos(heading, out=cosine)
            torch.add(positions[move], direction, out=positions[move + 1])
        return path.permute(2, 0, 1) * step
