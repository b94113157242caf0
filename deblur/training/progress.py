"""What the user sees while a network trains: a bar on a terminal, a line an epoch everywhere."""

from __future__ import annotations

import logging
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

_WARM_UP = 3  # batches of a process that do not count for its speed


class Throughput(Callback):
    """Measures images per second of training, validation left out, and logs it with the loss of single steps."""

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self._batches = 0
        self._mark = 0.0
        self._logged = (0, 0.0)
        self._logged_step = 0

    @property
    def images_per_second(self) -> float | None:
        """Mean over this process's training so far, for all processes together; None before it can be told."""
        return self.images / self.seconds if self.seconds else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._batches += 1
        if self._batches > _WARM_UP:
            self.images += len(batch.sharp) * trainer.world_size
            self.seconds += now - self._mark
        self._mark = now
        step = trainer.global_step
        if trainer.logger is None or step == self._logged_step or step % trainer.log_every_n_steps:
            return
        self._logged_step = step
        if trainer.world_size == 1:
            pl_module.check_steps()
        values = {"train/loss_step": loss_of(outputs, trainer), "train/lr": trainer.optimizers[0].param_groups[0]["lr"]}
        images, seconds = self.images - self._logged[0], self.seconds - self._logged[1]
        if seconds:
            values["train/images_per_second"] = images / seconds
        self._logged = (self.images, self.seconds)
        trainer.logger.log_metrics(values, step=step)


def loss_of(outputs: Any, trainer: Trainer) -> float:
    """The loss of a batch; Lightning hands on its share of the step's."""
    return float(outputs["loss"]) * trainer.accumulate_grad_batches


class ProgressLine(Callback):
    """A bar over the whole training on a terminal, and one line for each epoch.

    Args:
        console: where to draw the bar.
        throughput: what knows the speed.
        enabled: whether to draw the bar.
    """

    def __init__(self, console: Console, throughput: Throughput, enabled: bool) -> None:
        self.console, self.throughput, self.enabled = console, throughput, enabled
        self._progress: Progress | None = None
        self._shown = 0.0
        self._validated: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (trainer.is_global_zero and self.enabled):
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=self.console,
            transient=True,
        )
        total = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
        done = trainer.fit_loop.total_batch_idx + 1
        self._task = self._progress.add_task("training", total=total, completed=done, values="")
        self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._progress is None or time.monotonic() - self._shown < 0.2:
            return
        self._shown = time.monotonic()
        speed = self.throughput.images_per_second
        self._progress.update(
            self._task,
            completed=trainer.fit_loop.total_batch_idx + 1,
            description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            values=f"loss {loss_of(outputs, trainer):.4f}" + (f", {speed:,.0f} images/s" if speed else ""),
        )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._progress is not None:
            self._progress.update(self._task, description=f"epoch {trainer.current_epoch + 1}: validating")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        values = trainer.callback_metrics
        line = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if self._validated == trainer.current_epoch:
            line += (
                f"  PSNR {values['val/psnr']:.2f} dB ({values['val/psnr_gain']:+.2f})"
                f"  SSIM {values['val/ssim']:.4f}  on validation"
            )
        line += f"  loss {float(pl_module.loss_sum) / max(pl_module.loss_count, 1):.5f}"
        if self.throughput.images_per_second:
            line += f"  {self.throughput.images_per_second:,.0f} images/s"
        log.info(line)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = trainer.current_epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar off the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
