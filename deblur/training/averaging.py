"""An exponential moving average of the weights that soon forgets the first ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """Keeps an exponential moving average of the weights; it is what is validated, tested and kept as the best.

    After t steps the decay is the smaller of its own and (1 + t) / (10 + t), as in TensorFlow's
    `ExponentialMovingAverage`: with a constant one of 0.998 the weights of the first step would still be a quarter of
    the average after 700 steps, and early validation would judge a mixture that no training ever had.

    Args:
        decay: share of the old average that each step keeps, 0 to 1.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        super().__init__(multi_avg_fn=self._update)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the module is moved there and converted only after this
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            trainer.precision_plugin.convert_module(self._average_model.module)
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    @torch.no_grad()
    def _update(self, averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        done = int(self._average_model.n_averaged)  # `steps` is the same, brought to the GPU: reading it would wait
        decay = min(self.decay, (1 + done) / (10 + done))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(weights), 1 - decay)
        else:  # counters among the buffers
            torch._foreach_copy_(list(averages), list(weights))
