"""A task, and the plainest of them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Task(ABC):
    """What a network is given beside the blurred image, and asked for beside the restored one.

    Attributes:
        channels: that the model must have; None: as its own config says, those of the images.
    """

    channels: int | None = None

    @abstractmethod
    def around(self, model: nn.Module) -> nn.Module:
        """The network for this task with the model in it, which maps (B, channels, H, W) to the same shape.

        It maps blurred images to restored ones, both (B, C, H, W); if its `takes_psf` is true, blurred images and PSFs.
        If it finds PSFs, it has `estimates` as well, see `deblur.models.estimates.Estimates`; `trains_psf` is true if
        it learns to find them by `module.psf_weight` alone, and not in training the model.
        """


class Blind(Task):
    """The network sees the blurred image alone: it is the model itself."""

    def around(self, model: nn.Module) -> nn.Module:
        return model
