"""The task of finding the PSF beside the image."""

from __future__ import annotations

from torch import Tensor, nn

from deblur.errors import ArgumentError, check_integer
from deblur.models.estimates import Estimates
from deblur.models.psf_head import PSFHead
from deblur.tasks.base import Task


class Kernel(Task):
    """The network also says what the PSF was. A model that finds PSFs itself is left as it is.

    Args:
        channels: channels of the images.
        psf_size: side of the window that the PSF is found in, pixels; None for a model that finds PSFs itself.
        width, filters: see `PSFHead`.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, channels: int = 1, psf_size: int | None = None, width: int = 24, filters: int = 4) -> None:
        for name, value in (("channels", channels), ("psf_size", psf_size), ("width", width), ("filters", filters)):
            if (name, value) != ("psf_size", None):
                check_integer(name, value, low=1)
        self.head = {"channels": channels, "psf_size": psf_size, "width": width, "filters": filters}

    def around(self, model: nn.Module) -> nn.Module:
        if hasattr(model, "estimates"):
            return model
        if self.head["psf_size"] is None:
            raise ArgumentError("psf_size", None, "a whole number >= 1 where no blur's PSFs give it")
        return KernelNetwork(model, PSFHead(**self.head))


class KernelNetwork(nn.Module):
    """A model for the image, and a head beside it that finds the PSF from the blurred and the restored image.

    Args:
        model: from blurred to restored images.
        head: from both to PSFs.
    """

    trains_psf = True

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W); the head has no part in them."""
        return self.model(blurred)

    def estimates(self, blurred: Tensor) -> Estimates:
        """The restored images and the PSFs."""
        restored = self.model(blurred)
        return Estimates([restored], [self.head(blurred, restored)])
