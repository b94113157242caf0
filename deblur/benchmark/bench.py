"""How speeds are compared: every side in turn (A B C A B C ...) where it can be, and the median of each counts."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import torch

ROUNDS = 7  # measurements of each side


def on_device(device: torch.device) -> list[str]:
    """The overrides that a training runs on this device with."""
    gpu = device.type == "cuda"
    return [
        f"trainer.accelerator={'gpu' if gpu else device.type}",
        f"trainer.devices={f'[{device.index or 0}]' if gpu else 1}",
    ]


@dataclass(frozen=True)
class Side:
    """What is measured: a call that makes so many images.

    Attributes:
        name: of the side, for the table.
        call: makes them.
        images: of one call.
        multiple: calls are timed by multiples of this, where some of them cost more than others.
    """

    name: str
    call: Callable[[], Any]
    images: int
    multiple: int = 1


@dataclass(frozen=True)
class Row:
    """One comparison: every measurement of both sides, in the order in which they were taken.

    Attributes:
        what: is compared.
        theirs_name: the other side.
        ours_all, theirs_all: measurements in `unit`, more being better, unless `unit` is `s` or `MB`.
        target: the least ratio of ours to theirs that is asked for (of theirs to ours for seconds and megabytes), or
            None.
        unit: of the measurements.
    """

    what: str
    theirs_name: str
    ours_all: list[float]
    theirs_all: list[float]
    target: float | None = None
    unit: str = "images/s"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the file: the fields, the medians, and the median and middle half of the rounds' ratios.

        A ratio is of speeds, or of times and memory the other way round: above 1, ours is the better side.
        """
        costs = self.unit in ("s", "MB")
        ratios = [b / a if costs else a / b for a, b in zip(self.ours_all, self.theirs_all, strict=True)]
        half = quantiles(ratios, n=4, method="inclusive")[::2] if len(ratios) > 1 else ratios * 2
        return vars(self) | {
            "ours": median(self.ours_all),
            "theirs": median(self.theirs_all),
            "ratio": median(ratios),
            "middle_half": half,
        }


@dataclass
class Bench:
    """Where and how long to measure, and what is said meanwhile.

    Attributes:
        device: that computes.
        seconds: of one measurement.
        rounds: measurements of each side.
        say: shows what is going on.
        left_out: what could not be measured, and why.
    """

    device: torch.device
    seconds: float
    rounds: int = ROUNDS
    say: Callable[[str], object] = lambda words: None
    left_out: list[str] = field(default_factory=list)

    def clock(self) -> float:
        """Seconds, read once all work given to the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def rate(self, side: Side) -> float:
        """Images per second of a side."""
        calls, start = 0, self.clock()
        while calls == 0 or time.perf_counter() - start < self.seconds:
            for _ in range(side.multiple):
                side.call()
            calls += side.multiple
        return calls * side.images / (self.clock() - start)

    def measure(self, what: str, sides: Sequence[Side]) -> dict[str, list[float]]:
        """Images per second of each side by name, once a round, in turn; each is called before it is timed."""
        for side in sides:
            self.say(f"{what}: {side.name}")
            for _ in range(side.multiple):
                side.call()
        rates: dict[str, list[float]] = {side.name: [] for side in sides}
        for number in range(self.rounds):
            self.say(f"{what}, round {number + 1} of {self.rounds}")
            for side in sides:
                rates[side.name].append(self.rate(side))
        return rates

    @contextmanager
    def peer(self, package: str) -> Iterator[None]:
        """Within the block, the package is needed: where it is not installed, the block ends and says so."""
        try:
            yield
        except ImportError as error:
            if f"{package}, not installed" not in self.left_out:
                self.left_out.append(f"{package}, not installed" if error.name == package else f"{package}: {error}")


def version(package: str) -> str:
    """`package 1.2.3`."""
    return f"{package} {importlib.metadata.version(package)}"
