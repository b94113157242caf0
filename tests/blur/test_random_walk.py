"""The hand-tremor benchmark against its protocol, walked through with scipy one frame after the other."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor

from deblur.blur import RandomWalk, convolve
from deblur.data.idx import read_idx
from deblur.errors import ArgumentError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def translated(image: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The image moved by (dy, dx), bilinear, zeros shifted in."""
    return ndimage.shift(image, move, order=1, mode="grid-constant", cval=0.0)


def walked(image: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The protocol: each frame resamples the one before; the mean of all, the first included."""
    frames = [image]
    for move in moves:
        frames.append(translated(frames[-1], move))
    return np.mean(frames, axis=0)


def resampled(images: Tensor, moves: Tensor) -> Tensor:
    """Images (B, 1, H, W) moved by (dy, dx) each, by torch's own sampler."""
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y = (y - moves[:, 0, None, None]) * 2 / (height - 1) - 1
    x = (x - moves[:, 1, None, None]) * 2 / (width - 1) - 1
    return F.grid_sample(images, torch.stack([x, y], dim=-1), align_corners=True)


@given(
    st.integers(1, 12),
    st.one_of(st.just(0.07 * 28), st.floats(0, 5)),
    st.tuples(st.integers(11, 20), st.integers(11, 20)),
    st.integers(1, 3),
    st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_blurred_image_is_that_of_the_protocol(steps, step, size, channels, seed):
    blur = RandomWalk(steps, step)
    sharp = torch.rand(2, channels, *size, generator=generator(seed))
    motion = blur.draw(2, size, generator(seed))
    assert motion.trajectory.shape == (2, steps + 1, 2)
    blurred = blur.apply(sharp, motion)
    for i in range(2):
        moves = np.diff(motion.trajectory[i].double().numpy(), axis=0)
        for channel in range(channels):
            expected = walked(sharp[i, channel].double().numpy(), moves)
            np.testing.assert_allclose(blurred[i, channel].numpy(), expected, atol=2e-5)


def test_batch_larger_than_a_chunk_is_that_of_the_protocol():
    blur = RandomWalk()
    sharp = torch.rand(300, 1, 12, 12, generator=generator())
    motion = blur.draw(300, (12, 12), generator(1))
    blurred = blur.apply(sharp, motion)
    for i in (0, 255, 256, 299):
        moves = np.diff(motion.trajectory[i].double().numpy(), axis=0)
        np.testing.assert_allclose(blurred[i, 0].numpy(), walked(sharp[i, 0].double().numpy(), moves), atol=2e-5)


def test_steps_are_uniform_from_the_start():
    trajectory = RandomWalk().draw(1000, (28, 28), generator()).trajectory
    assert trajectory.shape == (1000, 11, 2)
    assert (trajectory[:, 0] == 0).all()
    moves = trajectory.diff(dim=1)
    assert moves.abs().max() <= 0.07 * 28 + 1e-5
    assert stats.kstest(moves.flatten(), stats.uniform(-1.96, 2 * 1.96).cdf).statistic < 0.015
    correlation = np.corrcoef(moves.permute(1, 2, 0).reshape(20, -1).numpy()) - np.eye(20)
    assert np.abs(correlation).max() < 0.2  # no step follows another, y does not follow x


@given(st.integers(1, 10), st.floats(0, 2.5), st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_psf_reproduces_the_blur_of_an_image_with_a_wide_black_margin(steps, step, seed):
    margin = steps * math.ceil(step)
    blur = RandomWalk(steps, step)
    size = (6 + 2 * margin, 5 + 2 * margin)
    sharp = F.pad(torch.rand(2, 1, 6, 5, generator=generator(seed)), (margin,) * 4)
    assume(2 * math.ceil(step) + 1 <= min(size))
    motion = blur.draw(2, size, generator(seed))
    assert motion.psf.shape == (2, 1, 2 * margin + 1, 2 * margin + 1)
    assert (motion.psf >= 0).all()
    torch.testing.assert_close(motion.psf.sum(dim=(1, 2, 3)), torch.ones(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(convolve(sharp, motion.psf), blur.apply(sharp, motion), atol=1e-5, rtol=0)


def test_part_of_a_batch_of_motions_is_that_part_of_the_blurred_batch():
    blur = RandomWalk()
    sharp = torch.rand(6, 1, 16, 16, generator=generator())
    motion = blur.draw(6, (16, 16), generator())
    whole = blur.apply(sharp, motion)
    assert len(motion) == 6
    assert len(motion[2:5]) == 3
    torch.testing.assert_close(blur.apply(sharp[2:5], motion[2:5]), whole[2:5])
    again = type(motion).cat([motion[:2], motion[2:].to("cpu")])
    assert torch.equal(again.trajectory, motion.trajectory)
    torch.testing.assert_close(again.psf, motion.psf)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("steps", 1001),
        ("step", -1),
        ("step", "far"),
        ("registration", "centroid"),
        ("padding", "reflect"),
        ("noise", 2),
    ],
)
def test_refused_argument_is_named(name, value):
    with pytest.raises(ArgumentError) as refused:
        RandomWalk(**{name: value})
    assert refused.value.name == name


def test_step_beyond_the_image_is_refused():
    RandomWalk(step=13).draw(1, (27, 30), generator())
    with pytest.raises(ArgumentError, match="at most 13") as refused:
        RandomWalk(step=13.1).draw(1, (27, 30), generator())
    assert refused.value.name == "step"


@pytest.fixture(scope="module")
def digits() -> Tensor:
    raw = Path(os.environ.get("DEBLUR_DATA", "")) / "MNIST" / "raw"
    files = [raw / "t10k-images-idx3-ubyte", raw / "t10k-images-idx3-ubyte.gz"]
    file = next((file for file in files if file.is_file()), None)
    if "DEBLUR_DATA" not in os.environ or file is None:
        pytest.skip("DEBLUR_DATA holds no MNIST/raw/t10k-images-idx3-ubyte")
    return read_idx(file).unsqueeze(1) / 255


def test_blurred_test_digits_have_the_published_error(digits):
    blur = RandomWalk()
    blurred = blur.apply(digits, blur.draw(len(digits), (28, 28), generator()))
    assert (blurred - digits).square().mean().item() == pytest.approx(0.0516, abs=0.0005)


def test_published_error_tells_the_protocol_from_moving_the_first_frame(digits):
    trajectory = RandomWalk().draw(len(digits), (28, 28), generator()).trajectory
    wrong = sum(resampled(digits, position) for position in trajectory.unbind(1)) / trajectory.shape[1]
    assert (wrong - digits).square().mean().item() == pytest.approx(0.0552, abs=0.0005)
