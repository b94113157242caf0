"""The task of restoring an image whose PSF is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deblur.errors import ArgumentError, check_integer
from deblur.models.estimates import Estimates, restore
from deblur.models.wiener import WienerFilters
from deblur.tasks.base import Task


class NonBlind(Task):
    """The network is given the PSF: the true one, or that of a trained network which estimates it and is frozen.

    Args:
        channels: channels of the images.
        psf: True, or `estimated`.
        filters: of the first step, see `WienerFilters`.
        estimator: the run whose network estimates the PSFs, for `psf=estimated`.
        estimator_network: the model and the task of that run.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        channels: int = 1,
        psf: bool | str = True,
        filters: int = 3,
        estimator: str | None = None,
        estimator_network: Mapping[str, Any] | None = None,
    ) -> None:
        self.images = check_integer("channels", channels, low=1)
        self.filters = check_integer("filters", filters, low=1)
        if psf is not True and psf != "estimated":
            raise ArgumentError("psf", psf, "true or estimated")
        if (psf is True) != (estimator is None):
            allowed = "a run that estimates PSFs, for psf=estimated" if estimator is None else "null with psf=true"
            raise ArgumentError("estimator", estimator, allowed)
        self.channels = channels * (1 + filters)
        self.estimator = None
        if psf == "estimated":
            found = estimator_network if isinstance(estimator_network, Mapping) else {}
            if not isinstance(found.get("model"), nn.Module) or not isinstance(found.get("task"), Task):
                raise ArgumentError("estimator_network", estimator_network, "left to the run: its estimator says it")
            self.estimator = found["task"].around(found["model"])

    def around(self, model: nn.Module) -> nn.Module:
        network = NonBlindNetwork(model, self.images, self.filters)
        return network if self.estimator is None else EstimatingNetwork(self.estimator, network)


class NonBlindNetwork(nn.Module):
    """Wiener filters of several strengths, and a model that restores what they make together with the blurred image.

    The blurred image and each filter's result are channels of the model's input; all of them come out again with the
    model's residual, and a 1x1 convolution, at first the mean of the filters' results, makes them one image.

    Args:
        model: maps (B, (1 + filters) * channels, H, W) to the same shape.
        channels: channels of the images.
        filters: how many Wiener filters.
    """

    takes_psf = True

    def __init__(self, model: nn.Module, channels: int, filters: int) -> None:
        super().__init__()
        self.wiener = WienerFilters(filters)
        self.model = model
        self.mix = nn.Conv2d((1 + filters) * channels, channels, 1)
        with torch.no_grad():
            self.mix.bias.zero_()
            self.mix.weight.copy_(torch.eye(channels).repeat(1, 1 + filters)[..., None, None] / filters)
            self.mix.weight[:, :channels] = 0

    def forward(self, blurred: Tensor, psf: Tensor) -> Tensor:
        """The restored images, (B, C, H, W).

        Args:
            blurred: (B, C, H, W).
            psf: (B, 1, K, K), its origin the pixel (K // 2, K // 2).
        """
        return self.mix(self.model(torch.cat([blurred, self.wiener(blurred, psf)], dim=1)))


class EstimatingNetwork(nn.Module):
    """A network that is given PSFs, and a frozen one before it that estimates them: together they are blind.

    Args:
        estimator: finds PSFs.
        network: takes them.
    """

    def __init__(self, estimator: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.estimator, self.network = estimator.requires_grad_(False), network

    def train(self, mode: bool = True) -> EstimatingNetwork:
        """The estimator stays in evaluation mode."""
        super().train(mode)
        self.estimator.eval()
        return self

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W)."""
        return self.estimates(blurred).images[-1]

    def estimates(self, blurred: Tensor) -> Estimates:
        """The restored images and the estimator's PSFs."""
        with torch.no_grad():
            psf = restore(self.estimator, blurred).psf
        return Estimates([self.network(blurred, psf)], [psf])
