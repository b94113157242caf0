"""Steps whose loss or gradients are not finite: skipped, so that no weight is damaged, and counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor


class Diverged(Exception):
    """The loss, the gradients or the weights are no longer numbers."""


@dataclass(frozen=True)
class Place:
    """Where in a training a step is.

    Attributes:
        step: of the optimiser, from 0.
        batch: number of the training batch since the start, which its images and blur are a function of.
    """

    step: int
    batch: int


class FiniteGuard:
    """Skips the steps of an optimiser that would bring a value into the weights that is not finite.

    Everything is told and kept on the device that trains: the CPU need not wait for a GPU, but for an optimiser that is
    not fused. `look` waits for it.
    """

    def __init__(self) -> None:
        self._good: Tensor | None = None  # whether all losses of the next step are finite
        # In a row by now, the longest row since the last look, and the step and batch at which the last row began.
        self._row, self._longest, self._step, self._batch = (torch.zeros((), dtype=torch.int64) for _ in range(4))

    def see_loss(self, loss: Tensor) -> None:
        """Note whether the loss of a batch, or of a part of one, is finite."""
        good = loss.detach().isfinite()
        self._good = good if self._good is None else self._good & good

    def before_step(self, optimizer: torch.optim.Optimizer, norm: Tensor | None, place: Place) -> None:
        """Let the optimiser's next step change nothing if a loss since the last step, or the gradients, are not finite.

        Args:
            optimizer: whose gradients are there.
            norm: of all gradients; None where a scaler of float16 looks at them and skips steps itself.
            place: of the step.
        """
        told = [] if self._good is None else [self._good]
        self._good = None
        if norm is not None:
            told.append(norm.isfinite())
        if not told:
            return
        bad = ~reduce(torch.logical_and, told)
        if norm is not None:
            fused = optimizer.defaults.get("fused")
            if fused and (optimizer.state or not optimizer.defaults.get("momentum")):  # the first step makes a momentum
                optimizer.found_inf = bad.float()  # read by the step of torch's fused optimisers
            elif bad:
                optimizer.zero_grad(set_to_none=True)  # what has no gradient is left alone by all optimisers
        if self._row.device != bad.device:
            self._move(bad.device)
        self._row = (self._row + 1) * bad
        self._longest = torch.maximum(self._longest, self._row)
        begins = self._row == 1
        self._step = torch.where(begins, place.step, self._step)
        self._batch = torch.where(begins, place.batch, self._batch)

    def look(self) -> tuple[int, Place]:
        """The most steps in a row that were skipped since the last look, and where the last such row began.

        Waits for the device.
        """
        longest = int(self._longest)
        self._longest = self._row.clone()
        return longest, Place(int(self._step), int(self._batch))

    def state_dict(self) -> dict[str, list[int]]:
        """The row of skipped steps so far, as plain values."""
        return {"row": [int(value) for value in (self._row, self._step, self._batch)]}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        """Go on there."""
        self._row, self._step, self._batch = (torch.tensor(value) for value in state["row"])
        self._longest = self._row.clone()

    def _move(self, device: torch.device) -> None:
        values = (self._row, self._longest, self._step, self._batch)
        self._row, self._longest, self._step, self._batch = (value.to(device) for value in values)
