"""The trained network of any run, ready to use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deblur.build import trusting
from deblur.errors import ArgumentError, UsageError, check_choice, shown
from deblur.models.estimates import Restored, estimates_psf, restore, takes_psf
from deblur.training.module import DeblurModule
from deblur.training.run import Run, run_of, telling_version, trained_checkpoint
from deblur.training.settings import section
from deblur.training.weights import read_weights


class Restorer(nn.Module):
    """A trained network in evaluation mode.

    Args:
        network: from blurred (and, if it takes such, their PSFs) to restored images.

    Attributes:
        takes_psf: whether it is given the PSFs, too: a run of `task=nonblind`.
        estimates_psf: whether it finds the PSFs itself: a run of `task=kernel`, or of a model that does.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.takes_psf, self.estimates_psf = takes_psf(network), estimates_psf(network)
        self.eval()

    @torch.no_grad()
    def forward(self, blurred: Tensor, psf: Tensor | None = None) -> Tensor:
        """The restored images, (B, C, H, W) in [0, 1], of blurred ones in [0, 1].

        Args:
            blurred: (B, C, H, W).
            psf: (B, 1, K, K), non-negative and of sum 1, if the network takes PSFs, else None.

        Raises:
            ArgumentError: there is no PSF for a network that takes them, or one for a network that does not.
        """
        return self.network(*self._given(blurred, psf)).clamp(0, 1)

    @torch.no_grad()
    def with_psf(self, blurred: Tensor, psf: Tensor | None = None) -> Restored:
        """The restored images as `forward` gives them, and the PSFs that the network found, or None."""
        images, found = restore(self.network, *self._given(blurred, psf))
        return Restored(images.clamp(0, 1), found)

    def _given(self, blurred: Tensor, psf: Tensor | None) -> tuple[Tensor, ...]:
        if not self.takes_psf:
            if psf is not None:
                raise ArgumentError("psf", tuple(psf.shape), "left out: this network sees the blurred images alone")
            return (blurred,)
        if psf is None:
            raise ArgumentError("psf", None, "given: this network restores images whose PSF is known")
        if psf.ndim != 4 or psf.shape != (len(blurred), 1, psf.shape[-1], psf.shape[-1]):
            raise ArgumentError("psf", tuple(psf.shape), f"of shape ({len(blurred)}, 1, K, K)")
        return blurred, psf


def load(run: str | Path, allow: Sequence[str] = ()) -> Restorer:
    """The trained network of a run, on the CPU, in evaluation mode: blurred (B, C, H, W) in [0, 1] to restored.

    That of a run of `task=nonblind` (with `task.psf=true`) takes the PSFs, too: `network(blurred, psf)`. `with_psf`
    also gives the PSFs that a network found.

    Runs no code that the run names, but for classes of `deblur`, modules of `torch.nn` and optimisers of
    `torch.optim`.

    Args:
        run: a run folder (its best checkpoint is taken), a checkpoint file, or a published run.
        allow: further packages whose classes the run may name.

    Raises:
        UsageError: there is no run, its checkpoint is damaged, or names something that is not allowed.

    Example:
        network = deblur.load("outputs/unet/2026-11-23_18-30-12")
        restored = network(blurred)
    """
    file = trained_checkpoint(str(run), "run")
    settings, state = read_weights(file)
    with trusting(*allow), telling_version(_run_of(file)):
        try:
            module = DeblurModule(**settings)
            module.load_state_dict(state)
        except UsageError:
            raise
        except Exception as error:  # settings that others have written can be wrong in many ways
            raise UsageError(f"{file}: its weights do not fit its settings: {shown(error)}") from error
    return Restorer(module.network)


def _run_of(file: Path) -> Run | None:
    try:
        return run_of(str(file), "run")
    except UsageError:
        return None  # a file on its own


def choose_device(accelerator: Any) -> torch.device:
    """The device that `accelerator=auto|cpu|gpu|mps` means here; auto takes the best there is.

    Raises:
        UsageError: there is none of this kind.
    """
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    with section(""):
        check_choice("accelerator", accelerator, ("auto", *there))
    name = next(name for name in there if there[name]) if accelerator == "auto" else accelerator
    if not there[name]:
        raise UsageError(f"accelerator={accelerator}: there is none on this machine")
    return torch.device("cuda" if name == "gpu" else name)
