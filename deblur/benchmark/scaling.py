"""How the cost grows: with the size of images and PSFs, the batch, the points of a path and the number of runs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

from deblur.benchmark.bench import Bench, Side
from deblur.blur import Shake
from deblur.seeding import generator
from deblur.summary import METRICS, Job, Sweep


@dataclass(frozen=True)
class Growth:
    """Seconds against what was varied.

    Attributes:
        what: was measured.
        over: what was varied.
        values: of it.
        seconds: at each of them.
    """

    what: str
    over: str
    values: list[float]
    seconds: list[float]

    @property
    def exponent(self) -> float:
        """p of the power law seconds ~ value^p, fitted by least squares to the logarithms."""
        x, y = ([math.log(value) for value in side] for side in (self.values, self.seconds))
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        return covariance / sum((a - mean_x) ** 2 for a in x)

    def as_dict(self) -> dict:
        """Plain values for the file."""
        return vars(self) | {"exponent": self.exponent}


def run(bench: Bench) -> Iterator[Growth]:
    """Blur over image side, PSF side, batch and points; the summary of a sweep over its runs."""
    cases: Sequence[tuple[str, list[int], Callable[[int], Side]]] = (
        ("side of the image, pixels (shake 9, batch 32)", [32, 64, 128, 256], lambda n: _blur(bench, 32, n, 9)),
        ("length of the path, pixels (image 128, batch 32)", [5, 9, 17, 33], lambda n: _blur(bench, 32, 128, n)),
        ("batch (28 pixels, shake 9)", [64, 256, 1024, 4096], lambda n: _blur(bench, n, 28, 9)),
        ("points of the path (28 pixels, shake 9, batch 1024)", [16, 64, 256], lambda n: _blur(bench, 1024, 28, 9, n)),
    )
    for over, values, make in cases:
        seconds = []
        for value in values:
            bench.say(f"scaling over {over}: {value}")
            side = make(value)
            side.call()
            seconds.append(side.images / bench.rate(side))
        yield Growth("blur: draw, PSF, apply", over, [float(value) for value in values], seconds)
    bench.say("scaling over runs of a sweep")
    counts = [25, 50, 100, 200]
    yield Growth("summary of a sweep", "runs", [float(n) for n in counts], [_summary(count) for count in counts])


def _blur(bench: Bench, batch: int, size: int, length: int, points: int | None = None) -> Side:
    source = generator("scaling", device=bench.device)
    sharp = torch.rand(batch, 1, size, size, generator=source, device=bench.device)
    blur = Shake(length=length, points=points)
    return Side("blur", lambda: blur.apply(sharp, blur.draw(batch, (size, size), source)), batch)


def _summary(count: int) -> float:
    """Seconds that the summary of so many finished runs takes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [Job(f"seed={number}", {"seed": str(number)}) for number in range(count)]
        for number, job in enumerate(jobs):
            run = folder / job.name
            run.mkdir()
            metrics = dict.fromkeys(METRICS, 20.0 + number)
            results = {"status": "finished", "metrics": metrics, "parameters": 1, "seconds": 1.0}
            (run / "results.json").write_text(json.dumps(results))
            (run / "config.yaml").write_text(yaml.safe_dump({"seed": number}))
        sweep = Sweep(folder, [], ["seed"], METRICS[0], jobs)
        start = time.perf_counter()
        sweep.write()
        return time.perf_counter() - start
