"""Lightning's Trainer from the settings `trainer.*`, checked: Lightning itself accepts nonsense."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from deblur.build import constructor_parameters
from deblur.errors import (
    ArgumentError,
    UsageError,
    check_choice,
    check_flag,
    check_integer,
    check_number,
    nearest,
    shown,
)
from deblur.training.checkpoint import AtomicCheckpointIO
from deblur.training.profiler import StepProfiler

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "32", "64", "16", "bf16")
_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")

# What the run decides itself.
_OURS = {
    "logger",
    "callbacks",
    "plugins",
    "default_root_dir",
    "enable_checkpointing",
    "enable_model_summary",
    "use_distributed_sampler",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
    "num_sanity_val_steps",
    "barebones",
    "fast_dev_run",
    "enable_autolog_hparams",
    "model_registry",
    "min_steps",
    "val_check_interval",
}


def _check_batches(name: str, value: Any) -> None:
    least = 0 if name == "limit_val_batches" else 1
    if isinstance(value, float):
        check_number(name, value, above=0.0, high=1.0)
    else:
        check_integer(name, value, low=least)


def _check_steps(name: str, value: Any) -> None:
    if value != -1:
        check_integer(name, value, low=1)


def _check_devices(name: str, value: Any) -> None:
    items = value if isinstance(value, list) and value else [value]
    if value == "auto" or (isinstance(value, str) and value.replace(",", "").isdigit()):
        return
    if any(isinstance(item, bool) or not isinstance(item, int) for item in items) or value == 0:
        raise ArgumentError(name, value, "a number of devices, a list of their indices, or auto")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ArgumentError(name, value, "a word")


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "accelerator": partial(check_choice, choices=_ACCELERATORS),
    "strategy": _check_text,
    "devices": _check_devices,
    "num_nodes": partial(check_integer, low=1),
    "max_epochs": partial(check_integer, low=1),
    "min_epochs": partial(check_integer, low=1),
    "limit_train_batches": _check_batches,
    "limit_val_batches": _check_batches,
    "limit_test_batches": _check_batches,
    "limit_predict_batches": _check_batches,
    "max_steps": _check_steps,
    "check_val_every_n_epoch": partial(check_integer, low=1),
    "log_every_n_steps": partial(check_integer, low=1),
    "accumulate_grad_batches": partial(check_integer, low=1),
    "gradient_clip_val": partial(check_number, low=0.0),
    "gradient_clip_algorithm": partial(check_choice, choices=("norm", "value")),
    "enable_progress_bar": check_flag,
    "benchmark": check_flag,
    "inference_mode": check_flag,
    "detect_anomaly": check_flag,
    "sync_batchnorm": check_flag,
    "max_time": _check_text,
    "profiler": partial(check_choice, choices=("simple", "advanced", "pytorch")),
}


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuses settings that Lightning's Trainer cannot follow, devices that are not there included.

    Raises:
        UsageError: a setting is unknown or refused.
    """
    known = [name for name in constructor_parameters(Trainer) if name not in _OURS]
    for name, value in settings.items():
        if name in _OURS:
            raise UsageError(
                f"trainer.{name}={shown(value)}: the run decides this itself; may be set: {', '.join(known)}"
            )
        if name not in known:
            raise UsageError(
                f"trainer.{name}={shown(value)}: no such key{nearest(name, known)}; Lightning's Trainer takes "
                + ", ".join(known)
            )
        if name == "precision":
            check = partial(check_choice, choices=_PRECISIONS)
            value = str(value)
        elif name == "deterministic":
            check = check_flag
        else:
            check = _CHECKS.get(name)
        if check is not None and (value is not None or name == "max_epochs"):
            try:
                check(name, value)
            except ArgumentError as error:
                raise UsageError(f"trainer.{error}") from error
    if settings.get("accelerator") == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        most = max(os.cpu_count() or 1, 2)
        devices = settings.get("devices")
        if str(devices).isdigit() and int(devices) > most:
            raise UsageError(f"trainer.devices={devices}: must be at most {most} processes on this machine's cores")
    make_trainer(settings, callbacks=[], logger=None)


def make_trainer(
    settings: Mapping[str, Any], callbacks: Sequence[Callback], logger: Logger | None, folder: Path | None = None
) -> Trainer:
    """The Trainer for checked settings.

    Args:
        settings: the section `trainer`.
        callbacks: what watches the training.
        logger: where its curves go.
        folder: of the run, where a profile goes, if one is asked for.

    Raises:
        UsageError: Lightning refuses them, most often because there is no such device.
    """
    try:
        trainer = Trainer(
            **{**settings, "enable_progress_bar": False, "profiler": _make_profiler(settings.get("profiler"), folder)},
            callbacks=list(callbacks),
            logger=logger if logger is not None else False,
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the loaders know their share
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        asked = " ".join(
            f"trainer.{key}={shown(settings[key])}"
            for key in ("accelerator", "devices", "strategy", "precision")
            if key in settings
        )
        raise UsageError(f"{asked}: {shown(error)}") from error
    return trainer


def fit(trainer: Trainer, module: LightningModule, data: LightningDataModule, resume_from: Path | None = None) -> None:
    """Train, from a checkpoint on if one is given.

    On a GPU, products of matrices are meanwhile of TF32, as cuDNN's convolutions are by default.
    """
    before = torch.get_float32_matmul_precision()
    if trainer.strategy.root_device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
    finally:
        torch.set_float32_matmul_precision(before)


def _make_profiler(kind: str | None, folder: Path | None) -> Profiler | None:
    """Writes its tables, and with `pytorch` a trace for the browser, into `<folder>/profile`."""
    if kind is None or folder is None:
        return None
    makers = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": StepProfiler}
    return makers[kind](folder / "profile", kind)
