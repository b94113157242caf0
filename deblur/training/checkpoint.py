"""Checkpoints that are whole or not there, of plain containers and tensors only."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from deblur.errors import UsageError, check_choice, check_number, shown
from deblur.metric_names import LOSS, VALIDATION, is_better
from deblur.training.integrity import check_whole
from deblur.training.run import PREVIOUS, whole_file

log = logging.getLogger(__name__)

_DDP_CHECK_EVERY = 50  # batches, or those of one step, between agreements of several processes on whether to save


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary name, flushes it to the disk and renames it; the last one stays beside it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        with whole_file(path) as temporary:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # the one before gives way to nothing less
            if path.name == "last.ckpt" and path.is_file():
                path.replace(path.with_name(PREVIOUS))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location=map_location)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's content; opening it runs no code, and a changed bit is noticed.

    Raises:
        UsageError: it is not there, damaged, or holds more than plain containers and tensors.
    """
    try:
        check_whole(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such checkpoint") from None
    except Exception as error:  # torch.load raises many kinds for damaged files
        why = shown(error) if isinstance(error, OSError | ValueError) else type(error).__name__
        raise UsageError(f"{path}: is damaged, or no checkpoint of plain tensors ({why})") from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UsageError(f"{path}: is no checkpoint of a run")
    return checkpoint


# SLURM sends SIGTERM before it takes a machine away, and what --signal names (often SIGUSR1) before the time is up.
STOPPING = (signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):
    """The training was told to stop by a signal; its checkpoint is saved, if there was anything to save."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class RunCheckpoint(Checkpoint):
    """Keeps `best.ckpt`, by a validation metric, and `last.ckpt`, after every epoch and every so many minutes.

    Both are saved between two training steps, where exponential averages and weights are not exchanged, so that
    training can go on exactly from either. Ctrl-C and the signals of `STOPPING` save and stop; a second one stops at
    once.

    Args:
        monitor: metric that chooses the best checkpoint; the higher the better, but for losses and errors.
        every_minutes: most minutes of work that an interruption may cost.

    Attributes:
        best_score, best_epoch: the metric of the best checkpoint and its epoch, the first being 0; None: there is none.
        best_metrics: all metrics of that epoch, by the dashboard's names.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, monitor: str = "val/psnr", every_minutes: float = 10.0) -> None:
        self.monitor = check_choice("monitor", monitor, (*VALIDATION, LOSS))
        self.every_seconds = 60 * check_number("every_minutes", every_minutes, low=0.0)
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.best_metrics: dict[str, float] = {}
        self.folder: Path | None = None
        self._validated: int | None = None
        self._saved_at = time.monotonic()
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))  # only the first process has made it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = time.monotonic()
        self._forget_damaged_best()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *STOPPING):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_told(trainer)  # the epoch before was saved at its end, and is logged by now

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()
        self._stop_if_told(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the epoch's end saves
        of_step = trainer.accumulate_grad_batches
        if (batch_idx + 1) % of_step:
            return  # gradients that are not applied yet are in no checkpoint
        due = self._signal is not None or time.monotonic() - self._saved_at >= self.every_seconds
        if trainer.world_size > 1:
            agree_every = of_step * max(1, _DDP_CHECK_EVERY // of_step)  # whole steps: where all could save
            due = (batch_idx + 1) % agree_every == 0 and trainer.strategy.broadcast(due)
        if due:
            self._save(trainer, "last.ckpt")
            self._stop_if_told(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor in trainer.callback_metrics:
            score = float(trainer.callback_metrics[self.monitor])
            if self._is_better(score):
                self.best_score, self.best_epoch = score, trainer.current_epoch
                self.best_metrics = self._metrics(trainer)
                self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        best = {"best_score": self.best_score, "best_epoch": self.best_epoch}
        return {**best, "best_metrics": self.best_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]
        self.best_metrics = state_dict["best_metrics"]

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number

    def _stop_if_told(self, trainer: Trainer) -> None:
        number = trainer.strategy.broadcast(self._signal) if trainer.world_size > 1 else self._signal
        if number is not None:
            raise Interrupted(number)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _forget_damaged_best(self) -> None:
        """A resumed run whose best checkpoint was damaged meanwhile chooses among those that still come."""
        if self.best_score is None:
            return
        best = self.folder / "best.ckpt"
        try:
            check_whole(best)
        except (OSError, ValueError) as error:
            log.warning("%s: is damaged (%s); the best checkpoint from here on takes its place", best, shown(error))
            self.best_score, self.best_epoch, self.best_metrics = None, None, {}

    def _is_better(self, score: float) -> bool:
        if not math.isfinite(score):
            return False
        return self.best_score is None or is_better(self.monitor, score, self.best_score)

    def _metrics(self, trainer: Trainer) -> dict[str, float]:
        """Those of this epoch: Lightning keeps those of the last validation, which may be of an earlier one."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        stale = self._validated != trainer.current_epoch
        return {name: value for name, value in found.items() if not (stale and name.startswith("val/"))}

    def _save(self, trainer: Trainer, name: str) -> None:
        trainer.lightning_module.check_weights()
        trainer.save_checkpoint(self.folder / name)
        self._saved_at = time.monotonic()


@contextmanager
def raising_when_told(*signals: int) -> Iterator[None]:
    """Within the block, in the main thread, each of these signals raises `Interrupted`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
