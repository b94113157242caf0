"""The same few images, restored after every validation, for the dashboard and the run's figures."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from deblur.data.pairs import Pairs, cut
from deblur.figures import panel
from deblur.models.estimates import Restored

_IMAGES = 8


class Panels(Callback):
    """Logs one picture per validation: sharp, blurred, restored, error and PSFs of the same images each time.

    Attributes:
        tested: the first pairs of the test and what was made of them, for the run's figures.
    """

    def __init__(self) -> None:
        self.tested: tuple[Pairs, Restored] | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Pairs,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero and trainer.logger is not None:
            pairs, restored = _first(batch, outputs)
            picture = panel(pairs, restored.images, psf=restored.psf)
            trainer.logger.experiment.add_image("val/restorations", picture, trainer.global_step, dataformats="HWC")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Pairs,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero:
            self.tested = _first(batch, outputs)


def _first(batch: Pairs, restored: Restored) -> tuple[Pairs, Restored]:
    first = cut(batch, slice(_IMAGES))
    motion = None if first.motion is None else first.motion.to("cpu")
    images, psf = (None if part is None else part[:_IMAGES].float().cpu() for part in restored)
    return Pairs(first.sharp.cpu(), first.blurred.cpu(), motion), Restored(images, psf)
