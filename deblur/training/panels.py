"""The same few images, restored after every validation, for the dashboard and the run's figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from deblur.data.pairs import Pairs, cut, join
from deblur.figures import panel
from deblur.models.estimates import Restored

_IMAGES = 8

Shown = tuple[Pairs, Restored]


class Panels(Callback):
    """Logs one picture per validation: sharp, blurred, restored, error and PSFs of the same images each time.

    They are spread evenly over the images that the first process sees: of photographs, several crops of one follow each
    other.

    Attributes:
        tested: pairs of the test and what was made of them, for the run's figures.
    """

    def __init__(self) -> None:
        self.tested: Shown | None = None
        self._validated: list[Shown] = []
        self._tested: list[Shown] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Pairs,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.is_global_zero and trainer.logger is not None:
            self._validated += _spread(batch, outputs, batch_idx, trainer.num_val_batches[0])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._validated:
            pairs, restored = _joined(self._validated)
            self._validated.clear()
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
        if trainer.is_global_zero:
            self._tested += _spread(batch, outputs, batch_idx, trainer.num_test_batches[0])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._tested:
            self.tested = _joined(self._tested)
            self._tested.clear()


def _spread(batch: Pairs, restored: Restored, number: int, batches: int) -> list[Shown]:
    """Those of the batch that are among the images that are shown.

    Args:
        batch: of so many pairs.
        restored: what was made of them.
        number: of the batch.
        batches: how many there are, of about the same size.
    """
    places = [divmod(image * batches, _IMAGES) for image in range(_IMAGES)]
    inside = sorted({share * len(batch.sharp) // _IMAGES for place, share in places if place == number})
    return [_one(batch, restored, index) for index in inside]


def _one(batch: Pairs, restored: Restored, index: int) -> Shown:
    pair = cut(batch, slice(index, index + 1))
    motion = None if pair.motion is None else pair.motion.to("cpu")
    images, psf = (None if part is None else part[index : index + 1].float().cpu() for part in restored)
    return Pairs(pair.sharp.cpu(), pair.blurred.cpu(), motion), Restored(images, psf)


def _joined(shown: Iterable[Shown]) -> Shown:
    pairs, restored = zip(*shown, strict=True)
    images, psfs = zip(*restored, strict=True)
    return join(pairs), Restored(torch.cat(images), None if psfs[0] is None else torch.cat(psfs))
