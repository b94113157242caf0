"""The settings that make a training faster: what each gives, and what it does to the validation PSNR."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import nn

from deblur.benchmark.bench import Bench, Row
from deblur.benchmark.training import BATCH, offline_plan
from deblur.build import EVERYTHING, trusting
from deblur.training.logger import RunLogger
from deblur.training.trainer import fit, make_trainer

EPOCHS = 3
MOST_SLOWDOWN = 3.0  # of bfloat16, beyond which a training would not end in the time that a benchmark has
PLAIN = {
    "module.channels_last": "false",
    "trainer.precision": "32-true",
    "optimizer": "adamw",
    "optimizer.fused": "false",
}
SETTINGS = [
    {"optimizer.fused": "true"},
    {"module.channels_last": "true"},
    {"trainer.precision": "bf16-mixed"},
    {"compile": "true"},
    {"optimizer": "muon"},
]


class Watch(Callback):
    """Images a second in each epoch but the first, which warms up and compiles, and the last validation PSNR.

    Attributes:
        first: seconds of the first epoch.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.rates, self.psnr, self.first, self._start = bench, [], 0.0, 0.0, 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self._start = self.bench.clock()

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        seconds = self.bench.clock() - self._start
        if trainer.current_epoch:
            self.rates.append(trainer.num_training_batches * BATCH / seconds)
        else:
            self.first = seconds

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.psnr = float(trainer.callback_metrics["val/psnr"])


def run(bench: Bench) -> Iterator[Row]:
    """The default U-Net for a few epochs of the offline digits: plain, with each setting more, and compiled twice.

    A compiled network is kept on the disk: the second time stands for the further runs of a sweep.
    """
    with trusting(EVERYTHING):
        bench.say("settings: plain")
        base = _trained(bench, PLAIN)
        for changes in [*SETTINGS, None]:
            name = "all defaults" if changes is None else " ".join(f"{key}={value}" for key, value in changes.items())
            if changes and "bf16" in changes.get("trainer.precision", ""):
                slower = bfloat16_slowdown(bench)
                if slower > MOST_SLOWDOWN:
                    bench.left_out.append(
                        f"{name}, since a convolution in bfloat16 takes {slower:.0f} times as long here"
                    )
                    continue
            bench.say(f"settings: {name}")
            values = {} if changes is None else PLAIN | changes
            if values.get("optimizer") == "muon":
                del values["optimizer.fused"]  # it has no such form
            found = _trained(bench, values)
            yield _row(name, found, "plain float32, AdamW", base)
        defaults = found  # the last
        with _empty_cache():
            for time in ("", ", again"):
                name = f"all defaults and compile=true{time}"
                bench.say(f"settings: {name}")
                torch.compiler.reset()
                found = _trained(bench, {"compile": "true"})
                name += f", first epoch {found.first - defaults.first:+.0f} s"
                yield _row(name, found, "all defaults", defaults)


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Within the block, nothing compiled before is found on the disk."""
    key = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(key)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[key] = folder
        try:
            yield
        finally:
            os.environ.pop(key) if before is None else os.environ.update({key: before})


def _row(name: str, found: Watch, base_name: str, base: Watch) -> Row:
    what = f"U-Net trained with {name} ({found.psnr - base.psnr:+.2f} dB after {EPOCHS} epochs)"
    return Row(what, base_name, found.rates, base.rates)


@torch.inference_mode()
def bfloat16_slowdown(bench: Bench) -> float:
    """How many times as long a convolution of the U-Net takes in bfloat16 as in float32: under 1 where it is faster."""
    convolution = nn.Conv2d(16, 16, 3, padding=1).to(bench.device)
    times = []
    for kind in (torch.float32, torch.bfloat16):
        images = torch.zeros(32, 16, 28, 28, device=bench.device, dtype=kind)
        layer = convolution.to(kind)
        tries = []
        for _ in range(6):  # the first sets up
            start = bench.clock()
            layer(images)
            tries.append(bench.clock() - start)
        times.append(min(tries))
    return times[1] / times[0]


def _trained(bench: Bench, values: dict[str, str]) -> Watch:
    typed = [f"{key}={value}" for key, value in values.items()]
    plan, watch = offline_plan(bench, *typed, f"trainer.max_epochs={EPOCHS}"), Watch(bench)
    with tempfile.TemporaryDirectory() as folder:
        logger = RunLogger(Path(folder))
        settings = {**plan.settings["trainer"], "enable_progress_bar": False}
        fit(make_trainer(settings, [watch], logger), plan.module, plan.data)
        logger.close()
    return watch
