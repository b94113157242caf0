"""Learning rate schedules as functions of the progress of training."""

from __future__ import annotations

import math

from deblur.errors import check_number


class Constant:
    """The learning rate itself, after a linear warm-up.

    Args:
        warmup: share of the training steps over which the rate rises from 0.
    """

    def __init__(self, warmup: float = 0.0) -> None:
        self.warmup = check_number("warmup", warmup, low=0.0, high=1.0)

    def __call__(self, progress: float) -> float:
        """The factor of the learning rate at a progress in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        return self.after_warmup((progress - self.warmup) / max(1 - self.warmup, 1e-9))

    def after_warmup(self, progress: float) -> float:
        """The factor at a progress in [0, 1] of what comes after the warm-up."""
        return 1.0


class Cosine(Constant):
    """Half a cosine from the learning rate down to a share of it, after a linear warm-up.

    Source: I. Loshchilov and F. Hutter, "SGDR", ICLR 2017.

    Args:
        warmup: share of the training steps over which the rate rises from 0.
        final: factor at the end.
    """

    def __init__(self, warmup: float = 0.05, final: float = 0.0) -> None:
        super().__init__(warmup)
        self.final = check_number("final", final, low=0.0, high=1.0)

    def after_warmup(self, progress: float) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class OneCycle(Cosine):
    """One cycle: a cosine up from a share of the learning rate, and a cosine down to almost nothing.

    Source: L. Smith and N. Topin, "Super-Convergence", 2018; the momentum stays as it is.

    Args:
        warmup: share of the training steps on the way up.
        initial: factor at the start.
        final: factor at the end.
    """

    def __init__(self, warmup: float = 0.3, initial: float = 0.04, final: float = 4e-6) -> None:
        super().__init__(warmup, final)
        self.initial = check_number("initial", initial, low=0.0, high=1.0)

    def __call__(self, progress: float) -> float:
        if progress >= self.warmup:
            return super().__call__(progress)
        return self.initial + (1 - self.initial) * 0.5 * (1 - math.cos(math.pi * progress / self.warmup))
