"""What a metric's values say over many images: mean, spread, how sure the mean is, and which images to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from deblur.errors import ArgumentError, check_integer
from deblur.evaluation.workers import side_by_side

RESAMPLES = 1000  # what Efron and Tibshirani ask of percentiles at least: more move the interval's ends by few percent
LEVEL = 0.95  # of the interval

_DRAWS = 2**18  # indices drawn at once, that they and their counts stay in a processor's cache

Direction = Literal["higher", "lower", "one"]  # which values are better: one is for ratios, best at 1


class Summary(NamedTuple):
    """Mean, sample standard deviation (0 of one image) and 95 % interval of the mean, over so many images."""

    mean: float
    std: float
    low: float
    high: float
    images: int


class Extremes(NamedTuple):
    """Indices of images, the best first, the ones around the median, and the worst first."""

    best: list[int]
    typical: list[int]
    worst: list[int]


def summarize(values: dict[str, Tensor], source: torch.Generator, resamples: int = RESAMPLES) -> dict[str, Summary]:
    """The summary of each metric's values, (N,) each, for the same N images.

    The interval is the percentile bootstrap of B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13: from the 2.5th to the 97.5th percentile of the means of samples of N images drawn with replacement. All
    metrics share the samples.

    Args:
        values: name -> (N,), finite.
        source: draws the samples; on the CPU.
        resamples: how many samples.

    Raises:
        ArgumentError: there are no images, not equally many for each metric, or a value is not finite.
    """
    check_integer("resamples", resamples, low=1)
    counts = {name: value.numel() for name, value in values.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ArgumentError("values", counts, "of one or more images, the same for each metric")
    table = torch.stack([value.detach().cpu().double().flatten() for value in values.values()], dim=1)
    if not table.isfinite().all():
        raise ArgumentError("values", [n for n, v in values.items() if not v.isfinite().all()], "finite numbers")
    mean = table.mean(dim=0)
    std = table.std(dim=0) if len(table) > 1 else torch.zeros_like(mean)
    low, high = bootstrap_means(table, source, resamples).quantile(
        torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64), dim=0
    )
    columns = zip(*(column.tolist() for column in (mean, std, low, high)), strict=True)
    return {name: Summary(*column, len(table)) for name, column in zip(values, columns, strict=True)}


def bootstrap_means(table: Tensor, source: torch.Generator, resamples: int = RESAMPLES) -> Tensor:
    """The mean of each column over each of the samples that are drawn with replacement, (resamples, M).

    How often each row is in a sample is counted, and the counts multiplied with the table: exact, and one draw for all
    columns. Several threads do so, each part of the samples from a generator of its own.

    Args:
        table: (N, M) on the CPU.
        source: draws the generators' seeds.
        resamples: how many samples.
    """
    count = len(table)
    size = max(1, _DRAWS // count)
    parts = [min(size, resamples - start) for start in range(0, resamples, size)]
    seeds = torch.randint(2**62, (len(parts),), generator=source).tolist()

    def means(part: tuple[int, int]) -> Tensor:
        rows, seed = part
        drawn = torch.randint(count, (rows, count), generator=torch.Generator().manual_seed(seed))
        counts = torch.zeros(rows, count).scatter_add_(1, drawn, torch.ones(rows, count))
        return counts.to(table.dtype) @ table / count

    workers = min(torch.get_num_threads(), len(parts))
    return torch.cat(list(side_by_side(means, zip(parts, seeds, strict=True), workers)))


def extremes(values: Tensor | Sequence[float], direction: Direction, count: int = 3) -> Extremes:
    """The images with the best, the median and the worst values, `count` of each or all there are; ties by index.

    Args:
        values: (N,), a metric's.
        direction: `higher` or `lower` values are better, or those whose logarithm is nearest to 0 (`one`).
        count: how many of each.

    Raises:
        ArgumentError: there are no images, or count is no positive number.
    """
    check_integer("count", count, low=1)
    values = torch.as_tensor(values).detach().cpu().double().flatten()
    if len(values) == 0:
        raise ArgumentError("values", [], "of one or more images")
    badness = {"higher": -values, "lower": values, "one": values.log().abs()}[direction]
    order = badness.argsort(stable=True).tolist()
    count = min(count, len(order))
    start = (len(order) - count + 1) // 2
    worst = (-badness).argsort(stable=True).tolist()[:count]
    return Extremes(order[:count], order[start : start + count], worst)
