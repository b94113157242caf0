"""A run as the trial of a search: what it reports, and how it is stopped when it is hopeless."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from deblur.metric_names import is_better


class Pruned(Exception):
    """The trial was stopped, because others had done better at the same point."""

    exit_code = 0


class TrialWatch(Callback):
    """Reports a trial's metric after every validation, and ends the trial before its next epoch when told.

    Args:
        metric: what is reported, `val/psnr` or another.
        searched: the trial's searched settings, numbers or words, for the dashboard.
        report: called with the number of epochs done and the metric; never with the same epoch twice in one process.
        is_hopeless: asked before every epoch but the first.

    Attributes:
        best: all validation metrics at the best epoch so far, by the reported one.
    """

    def __init__(
        self,
        metric: str,
        searched: Mapping[str, float | str],
        report: Callable[[int, float], None],
        is_hopeless: Callable[[], bool],
    ) -> None:
        self.metric, self.searched, self.report, self.is_hopeless = metric, searched, report, is_hopeless
        self.best: dict[str, float] = {}
        self._validated: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._validated != trainer.current_epoch:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        value = metrics[self.metric]
        if not math.isfinite(value):
            return
        if not self.best or is_better(self.metric, value, self.best[self.metric]):
            self.best = metrics
        self.report(trainer.current_epoch + 1, value)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not at the epoch's end: there it is saved first, so that a trial that was stopped can still be trained on.
        if trainer.current_epoch > 0 and self.is_hopeless():
            raise Pruned(f"stopped after {trainer.current_epoch} epochs: other trials did better by then")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
