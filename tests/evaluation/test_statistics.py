"""Intervals against scipy's bootstrap and normal theory; which images are the best, typical and worst."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from deblur.errors import ArgumentError
from deblur.evaluation.statistics import bootstrap_means, extremes, summarize
from deblur.seeding import generator


def skewed(count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(size=count))


def test_mean_and_standard_deviation_are_numpys():
    values = skewed(300)
    summary = summarize({"psnr": values.float()}, generator("test"))["psnr"]
    assert summary.mean == pytest.approx(values.numpy().mean(), rel=1e-6)
    assert summary.std == pytest.approx(values.numpy().std(ddof=1), rel=1e-6)
    assert summary.images == 300
    assert all(type(value) is float for value in summary[:4])


@pytest.mark.parametrize("count", [12, 60, 500])
def test_interval_is_scipys_percentile_bootstrap_within_sampling_error(count):
    values = skewed(count)
    ours = summarize({"x": values}, generator("test"), resamples=20_000)["x"]
    theirs = stats.bootstrap(
        (values.numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # An end has a standard error of sqrt(p (1 - p) / resamples) / density, about 0.02 of the mean's; five of the two's.
    tolerance = 5 * 2**0.5 * 0.02 * ours.std / count**0.5
    assert ours.low == pytest.approx(theirs.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.high, abs=tolerance)


def test_interval_of_many_images_is_that_of_normal_theory():
    values = skewed(4000)
    summary = summarize({"x": values}, generator("test"))["x"]
    error = summary.std / 4000**0.5
    assert summary.low == pytest.approx(summary.mean - 1.96 * error, abs=0.3 * error)
    assert summary.high == pytest.approx(summary.mean + 1.96 * error, abs=0.3 * error)


def test_interval_holds_the_true_mean_in_95_of_100_experiments():
    experiments = 400
    table = skewed(experiments * 200).view(200, experiments)
    names = [str(i) for i in range(experiments)]
    summaries = summarize(dict(zip(names, table.T, strict=True)), generator("test"), resamples=1000)
    covered = sum(summary.low <= 1 <= summary.high for summary in summaries.values())
    assert 0.91 <= covered / experiments <= 0.98


@pytest.mark.parametrize(("count", "resamples"), [(7, 50), (1000, 1100), (1, 3)])
def test_every_sample_is_a_mean_of_as_many_images_as_there_are(count, resamples):
    # Of an image that alone is 1, the mean of a sample tells how often it was drawn.
    table = torch.stack([torch.ones(count), torch.arange(count) == 0, torch.arange(count) == count - 1], dim=1).double()
    means = bootstrap_means(table, generator("test"), resamples)
    assert means.shape == (resamples, 3)
    assert (means[:, 0] == 1).all()
    times = means[:, 1:] * count
    torch.testing.assert_close(times, times.round(), atol=1e-9, rtol=0)
    # Binomial(count, 1 / count): mean 1 and variance 1 - 1 / count.
    tolerance = 6 * resamples**-0.5
    assert times.mean(dim=0).tolist() == pytest.approx([1, 1], abs=tolerance)
    assert times.var(dim=0).tolist() == pytest.approx([1 - 1 / count] * 2, abs=3 * tolerance)


def test_metrics_share_the_samples_and_one_seed_gives_one_result():
    values = skewed(50)
    both = summarize({"x": values, "shifted": values + 3}, generator("test"))
    assert both["shifted"].low == pytest.approx(both["x"].low + 3)
    assert summarize({"x": values, "shifted": values + 3}, generator("test")) == both
    assert summarize({"x": values}, generator("test"))["x"] == pytest.approx(both["x"])
    assert summarize({"x": values}, generator("other"))["x"].low != pytest.approx(both["x"].low)


def test_one_image_has_no_spread():
    assert summarize({"x": torch.tensor([0.25])}, generator("test"))["x"] == (0.25, 0, 0.25, 0.25, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": torch.empty(0)}, "one or more images"),
        ({"x": torch.ones(2), "y": torch.ones(3)}, "the same for each metric"),
        ({"x": torch.tensor([1.0, float("nan")])}, "finite"),
        ({"x": torch.tensor([1.0, float("inf")])}, "finite"),
    ],
)
def test_values_without_a_summary_are_refused(values, message):
    with pytest.raises(ArgumentError, match=message):
        summarize(values, generator("test"))


def test_extremes_are_the_best_the_median_and_the_worst():
    values = torch.tensor([30.0, 10, 50, 20, 40, 60, 0])
    assert extremes(values, "higher", 2) == ([5, 2], [0, 3], [6, 1])
    assert extremes(values, "lower", 2) == ([6, 1], [0, 4], [5, 2])
    assert extremes(values, "higher", 1).typical == [0]
    assert extremes(torch.tensor([0.5, 1.0, 3.0, 1.6]), "one", 1) == ([1], [0], [2])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_extremes_hold_for_ties_and_few_images(values, count):
    found = extremes(values, "higher", count)
    order = sorted(values, reverse=True)
    size = min(count, len(values))
    assert [values[i] for i in found.best] == order[:size]
    assert [values[i] for i in found.worst] == order[::-1][:size]
    assert len(set(found.typical)) == size
    distance = [abs(v - np.median(values)) for v in values]
    assert min(distance[i] for i in found.typical) <= sorted(distance)[0] + (len(values) % 2 == 0)


@pytest.mark.parametrize(("values", "count"), [([], 3), ([1.0], 0)])
def test_no_image_and_no_count_are_refused(values, count):
    with pytest.raises(ArgumentError):
        extremes(values, "higher", count)
