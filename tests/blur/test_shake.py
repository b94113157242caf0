"""The hand-shake trajectories: their statistics are those of the equation, at any number of points."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from deblur.blur import GaussianProcess, Kernels, Line, RandomWalk, Shake
from deblur.errors import ArgumentError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@functools.cache
def paths(points: int, anxiety: float = 1.0, count: int = 2000) -> Tensor:
    return Shake(1, anxiety=anxiety, points=points).draw_paths(count, generator(7)).double()


def end_to_end(path: Tensor) -> Tensor:
    return (path[:, -1] - path[:, 0]).norm(dim=-1)


def rms_radius(path: Tensor) -> Tensor:
    return (path - path.mean(dim=1, keepdim=True)).square().sum(dim=-1).mean(dim=1).sqrt()


def simulated(points: int, anxiety: float, count: int, seed: int) -> Tensor:
    """The equation of the design, with angles and a length in pixels: (count, points, 2), divided by the length."""
    rng = np.random.default_rng(seed)
    length, ds = 13.0, 1 / (points - 1)
    sigma, kappa, rho = (rng.uniform(0, top * anxiety, count) for top in (2.5, 20, 2))
    theta = rng.uniform(0, 2 * np.pi, count)
    position = np.zeros((count, 2))
    path = [position]
    for _ in range(points - 1):
        position = position + length * ds * np.stack([np.sin(theta), np.cos(theta)], axis=-1)
        path.append(position)
        phi = np.arctan2(position[:, 0], position[:, 1])
        distance = np.hypot(position[:, 0], position[:, 1])
        theta = theta + sigma * rng.normal(0, np.sqrt(ds), count) - kappa * distance / length * np.sin(phi - theta) * ds
        jumps = rng.uniform(size=count) < rho * ds
        theta = theta + jumps * (np.pi + rng.uniform(-0.5, 0.5, count))
    return torch.from_numpy(np.stack(path, axis=1) / length)


@pytest.mark.parametrize(("points", "end", "radius"), [(32, 0.50, 0.206), (128, 0.49, 0.203), (1024, 0.485, 0.200)])
def test_statistics_do_not_depend_on_the_number_of_points(points, end, radius):
    assert end_to_end(paths(points)).mean().item() == pytest.approx(end, abs=0.015)
    assert rms_radius(paths(points)).mean().item() == pytest.approx(radius, abs=0.006)


@pytest.mark.parametrize("anxiety", [0.5, 1.0, 3.0])
def test_trajectories_are_those_of_the_equation(anxiety):
    reference = simulated(128, anxiety, 4000, seed=1)
    ours = paths(128, anxiety)
    assert stats.ks_2samp(end_to_end(ours), end_to_end(reference)).pvalue > 1e-3
    assert stats.ks_2samp(rms_radius(ours), rms_radius(reference)).pvalue > 1e-3


def test_equation_is_told_from_another_anxiety():
    # What the test above could not miss: a quarter more of everything.
    reference = simulated(128, 1.25, 2000, seed=1)
    assert stats.ks_2samp(rms_radius(paths(128)), rms_radius(reference)).pvalue < 1e-3


def test_abrupt_reversals_come_at_their_rate():
    path = paths(1024)
    heading = path.diff(dim=1)
    cosine = torch.nn.functional.cosine_similarity(heading[:, 1:], heading[:, :-1], dim=-1)
    turned = (cosine < math.cos(math.pi - 0.9)).double()  # pi -+ 1/2, blurred by the random turn
    assert turned.sum(dim=1).mean().item() == pytest.approx(1.0, abs=0.06)  # rho is 1 on average


def test_no_anxiety_gives_straight_lines():
    path = paths(32, anxiety=0.0, count=256)
    torch.testing.assert_close(end_to_end(path), torch.ones(256).double(), atol=1e-5, rtol=0)


def test_anxiety_bends_the_path():
    radii = [rms_radius(paths(128, anxiety)).mean() for anxiety in (0.0, 0.3, 1.0, 3.0)]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] > 2 * radii[-1]


@pytest.mark.parametrize("count", [2, 7, 100])
def test_points_are_as_many_as_asked(count):
    assert Shake(5, points=count).draw(3, (28, 28), generator()).trajectory.shape == (3, count, 2)


def test_points_must_be_whole_and_anxiety_is_bounded():
    with pytest.raises(ArgumentError):
        Shake(5, points=2.5)
    with pytest.raises(ArgumentError, match="anxiety"):
        Shake(5, anxiety=1e39)  # would give PSFs of no number
    assert Shake(5, anxiety=1000).draw(8, (28, 28), torch.Generator()).psf.isfinite().all()


@pytest.mark.parametrize(
    "blur",
    [
        Shake([3, 9], noise=0.1),
        Line([3, 9], noise=0.1),
        GaussianProcess([3, 9], noise=0.1),
        RandomWalk(noise=0.1),
        Kernels(torch.rand(5, 3, 3), noise=0.1),
    ],
    ids=lambda blur: type(blur).__name__,
)
def test_blur_neither_uses_nor_disturbs_the_global_generator(blur):
    sharp = torch.rand(4, 1, 28, 28, generator=generator(1))
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        source = generator(2)
        results.append(blur.apply(sharp, blur.draw(4, (28, 28), source), source))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*results)
