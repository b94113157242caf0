"""Laws of every blur that moves along a path of given length: its trajectories, and the PSFs drawn from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.gaussian_process.kernels import Matern
from torch import Tensor

from deblur.blur import GaussianProcess, Line, Motion, PathBlur, Shake, draw_psf
from deblur.errors import ArgumentError

PATHS = [Shake, Line, GaussianProcess]
SIDE = 57  # pixels: room for a path of length 27 that starts in the centre

path_types = st.sampled_from(PATHS)
registrations = st.sampled_from(["centroid", "start"])
seeds = st.integers(0, 2**32)
numbers = st.floats(0, 27)
ranges = st.tuples(numbers, numbers).map(sorted)
lengths = st.one_of(st.integers(0, 27), numbers, ranges)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(blur: PathBlur, seed: int, count: int = 16) -> Motion:
    return blur.draw(count, (SIDE, SIDE), generator(seed))


def arc_length(trajectory: Tensor) -> Tensor:
    return trajectory.double().diff(dim=1).norm(dim=-1).sum(dim=1)


def centroid_of(psf: Tensor) -> Tensor:
    """(B, 2): the mean position (y, x) of each PSF, seen from its central pixel."""
    grid = torch.arange(psf.shape[-1], dtype=torch.float64) - psf.shape[-1] // 2
    psf = psf.squeeze(1).double()
    return torch.stack([psf.sum(dim=2) @ grid, psf.sum(dim=1) @ grid], dim=-1)


@given(path_types, lengths, registrations, seeds)
@settings(deadline=None, max_examples=60)
def test_psf_is_non_negative_of_mass_one_and_odd_size(path, length, registration, seed):
    blur = path(length, registration=registration)
    psf = drawn(blur, seed).psf
    longest = max(length) if isinstance(length, list) else length
    side = 2 * math.ceil(longest / 2 if registration == "centroid" else longest) + 1
    assert psf.shape == (16, 1, side, side)
    assert psf.dtype == torch.float32
    assert (psf >= 0).all()
    torch.testing.assert_close(psf.sum(dim=(1, 2, 3)), torch.ones(16), atol=1e-5, rtol=0)


@given(path_types, lengths, seeds)
@settings(deadline=None, max_examples=40)
def test_centroid_registration_centres_trajectory_and_psf(path, length, seed):
    motion = drawn(path(length, registration="centroid"), seed)
    torch.testing.assert_close(motion.trajectory.mean(dim=1), torch.zeros(16, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(centroid_of(motion.psf), torch.zeros(16, 2).double(), atol=1e-4, rtol=0)


@given(path_types, lengths, seeds)
@settings(deadline=None, max_examples=40)
def test_start_registration_begins_at_zero_and_keeps_the_mean_position(path, length, seed):
    motion = drawn(path(length, registration="start"), seed)
    assert (motion.trajectory[:, 0] == 0).all()
    torch.testing.assert_close(centroid_of(motion.psf), motion.trajectory.double().mean(dim=1), atol=1e-4, rtol=0)


@given(path_types, st.one_of(st.integers(0, 27), numbers), registrations, seeds)
@settings(deadline=None, max_examples=60)
def test_psf_is_the_whole_path_never_clipped(path, length, registration, seed):
    blur = path(length, registration=registration)
    motion = drawn(blur, seed)
    # The path itself, registered here, splatted on a grid that is far too large.
    paths = blur.draw_paths(16, generator(seed)).double() * length
    origin = paths.mean(dim=1, keepdim=True) if registration == "centroid" else paths[:, :1]
    wide = draw_psf(paths - origin, 2 * SIDE + 1).float()
    margin = SIDE - motion.psf.shape[-1] // 2
    widened = torch.nn.functional.pad(motion.psf, (margin,) * 4)
    torch.testing.assert_close(widened, wide, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("registration", "length"), [("centroid", 26), ("start", 13)])
def test_longest_straight_path_fills_its_grid_to_the_edge(registration, length):
    psf = Line(length, angle=0, registration=registration).draw(1, (27, 27), generator()).psf[0, 0]
    assert psf.shape == (27, 27)
    assert psf[13, 26] > 0
    assert psf[13].sum() == pytest.approx(1, abs=1e-5)


@given(st.sampled_from([Shake, Line]), lengths, registrations, seeds)
@settings(deadline=None, max_examples=40)
def test_path_has_the_asked_length_at_constant_speed(path, length, registration, seed):
    trajectory = drawn(path(length, registration=registration), seed).trajectory
    low, high = length if isinstance(length, list) else (length, length)
    walked = arc_length(trajectory)
    assert (walked >= low - 1e-3).all()
    assert (walked <= high + 1e-3).all()
    speeds = trajectory.double().diff(dim=1).norm(dim=-1)
    torch.testing.assert_close(speeds, speeds.mean(dim=1, keepdim=True).expand_as(speeds), atol=1e-4, rtol=0)


@given(st.floats(0.5, 27), seeds)
@settings(deadline=None, max_examples=15)
def test_gaussian_process_has_the_asked_length_but_for_cut_corners(length, seed):
    share = arc_length(drawn(GaussianProcess(length), seed, count=200).trajectory) / length
    assert (share <= 1 + 1e-4).all()
    assert (share > 0.8).all()
    assert share.mean() > 0.95


def test_gaussian_process_walks_at_constant_speed_on_a_fine_scale():
    # 32 points of a smooth curve: chords differ from arcs by little, so they are all about as long.
    steps = drawn(GaussianProcess(9, scale=2.0), 0, count=200).trajectory.diff(dim=1).norm(dim=-1)
    assert (steps / steps.mean(dim=1, keepdim=True) - 1).abs().mean() < 0.02


@pytest.mark.parametrize("path", PATHS)
def test_range_of_lengths_is_drawn_uniformly(path):
    cut = 0.976 if path is GaussianProcess else 1.0  # what its cut corners cost on average
    walked = arc_length(path([5, 15]).draw(2000, (28, 28), generator()).trajectory) / cut
    assert stats.kstest(walked.numpy(), stats.uniform(5, 10).cdf).statistic < 0.05


@given(
    path_types, st.floats(0, 60), registrations, st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(0, 20)
)
@settings(deadline=None, max_examples=80)
def test_only_a_psf_larger_than_the_image_is_refused(path, length, registration, size, seed):
    blur = path(length, registration=registration)
    side = 2 * math.ceil(length / 2 if registration == "centroid" else length) + 1
    if side <= min(size):
        assert blur.draw(1, size, generator(seed)).psf.shape[-1] == side
    else:
        with pytest.raises(ArgumentError) as refused:
            blur.draw(1, size, generator(seed))
        assert refused.value.name == "length"


@pytest.mark.parametrize(("registration", "most"), [("centroid", 26), ("start", 13)])
def test_refusal_of_a_length_names_the_largest_that_fits(registration, most):
    with pytest.raises(ArgumentError, match=rf"length=.*at most {most} for images of 28x40 pixels"):
        Shake([3, 27.5], registration=registration).draw(1, (28, 40), generator())
    Shake([3, most], registration=registration).draw(1, (28, 40), generator())


@pytest.mark.parametrize("path", PATHS)
def test_draw_is_a_function_of_the_generator(path):
    blur = path([2, 9], noise=[0.0, 0.1])
    first, same, other = (drawn(blur, seed) for seed in (5, 5, 6))
    assert torch.equal(first.trajectory, same.trajectory)
    assert torch.equal(first.psf, same.psf)
    assert torch.equal(first.noise, same.noise)
    assert not torch.allclose(first.trajectory, other.trajectory)


@pytest.mark.parametrize("path", PATHS)
def test_every_image_of_a_batch_has_its_own_path(path):
    assert len(drawn(path(9), 0, count=64).trajectory.unique(dim=0)) == 64


@pytest.mark.parametrize("path", PATHS)
def test_points_are_32_or_two_a_pixel(path):
    assert drawn(path(9), 0).trajectory.shape == (16, 32, 2)
    assert drawn(path([5, 20.2]), 0).trajectory.shape == (16, 41, 2)


@pytest.mark.parametrize("path", PATHS)
def test_directions_have_no_preference(path):
    trajectory = drawn(path(9, registration="start"), 0, count=4000).trajectory
    end = trajectory[:, -1] / trajectory[:, -1].norm(dim=-1, keepdim=True)
    angle = torch.atan2(end[:, 0], end[:, 1]).numpy() % (2 * math.pi)
    assert stats.kstest(angle, stats.uniform(0, 2 * math.pi).cdf).statistic < 0.03


@pytest.mark.parametrize(("angle", "direction"), [(0, (0, 1)), (90, (1, 0)), (180, (0, -1)), (-90, (-1, 0))])
def test_line_at_0_degrees_goes_right_and_at_90_down(angle, direction):
    end = drawn(Line(8, angle=angle, registration="start"), 0).trajectory[:, -1]
    torch.testing.assert_close(end, 8.0 * torch.tensor(direction).expand(16, 2), atol=1e-4, rtol=0)


@given(st.tuples(st.floats(-360, 360), st.floats(-360, 360)).map(sorted), seeds)
@settings(deadline=None, max_examples=30)
def test_line_is_straight_and_keeps_to_its_range_of_angles(angles, seed):
    trajectory = drawn(Line(10, angle=angles, registration="start"), seed).trajectory
    end = trajectory[:, -1:]
    time = torch.linspace(0, 1, trajectory.shape[1])
    torch.testing.assert_close(trajectory, end * time[:, None], atol=1e-4, rtol=0)
    low, high = angles
    turned = (torch.rad2deg(torch.atan2(end[..., 0], end[..., 1])) - low) % 360  # counted from the lowest angle
    assert ((turned <= high - low + 1e-2) | (turned > 360 - 1e-2)).all()


def test_gaussian_process_is_that_of_scikit_learns_matern_kernel():
    scale, count, nodes = 0.3, 3000, 128
    rng = np.random.default_rng(0)
    times = np.linspace(0, 1, nodes)[:, None]
    covariance = Matern(length_scale=scale, nu=2.5)(times)
    curves = rng.multivariate_normal(np.zeros(nodes), covariance, size=(count, 2), method="eigh")
    arc = np.hypot(*np.moveaxis(np.diff(curves, axis=-1), 1, 0)).sum(axis=-1)
    reference = np.hypot(*np.moveaxis(curves[..., -1] - curves[..., 0], 1, 0)) / arc
    paths = GaussianProcess(1, scale=scale).draw_paths(count, generator())
    ours = (paths[:, -1] - paths[:, 0]).norm(dim=-1).numpy()
    assert stats.ks_2samp(ours, reference).pvalue > 1e-3
    restless = GaussianProcess(1, scale=0.2).draw_paths(count, generator())
    assert stats.ks_2samp((restless[:, -1] - restless[:, 0]).norm(dim=-1).numpy(), reference).pvalue < 1e-6


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", -1),
        ("length", "long"),
        ("length", True),
        ("length", float("nan")),
        ("length", float("inf")),
        ("length", [9, 5]),
        ("length", [1, 2, 3]),
        ("registration", "middle"),
        ("padding", "mirror"),
        ("noise", -0.1),
        ("noise", 1.5),
        ("noise", [0.2, 0.1]),
    ],
)
def test_refused_argument_is_named(path, name, value):
    with pytest.raises(ArgumentError, match=rf"^{name}=.*must be ") as refused:
        path(**{name: value})
    assert refused.value.name == name


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (Shake, "anxiety", -1),
        (Shake, "anxiety", "calm"),
        (Shake, "points", 1),
        (Shake, "points", True),
        (Line, "angle", 361),
        (Line, "angle", "right"),
        (GaussianProcess, "scale", 0),
        (GaussianProcess, "scale", None),
    ],
)
def test_refused_argument_of_one_path_is_named(path, name, value):
    with pytest.raises(ArgumentError) as refused:
        path(9, **{name: value})
    assert refused.value.name == name
