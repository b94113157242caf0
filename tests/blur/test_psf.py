"""Splatting against a loop over points, convolution against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.signal import convolve2d

from deblur.blur import GaussianProcess, Line, RandomWalk, convolve, draw_psf
from deblur.blur.psf import crop_psf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def splatted(points: np.ndarray, size: int) -> np.ndarray:
    """Each point shared among the four pixels around it, by area."""
    psf = np.zeros((size, size))
    for y, x in points:
        top, left = math.floor(y), math.floor(x)
        down, right = y - top, x - left
        for row, column, share in (
            (top, left, (1 - down) * (1 - right)),
            (top, left + 1, (1 - down) * right),
            (top + 1, left, down * (1 - right)),
            (top + 1, left + 1, down * right),
        ):
            if share > 0:
                psf[size // 2 + row, size // 2 + column] += share / len(points)
    return psf


def reference(image: np.ndarray, psf: np.ndarray, padding: str) -> np.ndarray:
    if padding == "reflect":
        return convolve2d(np.pad(image, len(psf) // 2, mode="reflect"), psf, mode="valid")
    boundary = {"zeros": "fill", "circular": "wrap"}[padding]
    return convolve2d(image, psf, mode="same", boundary=boundary)


@given(
    st.integers(0, 6).flatmap(
        lambda half: arrays.arrays(
            np.float64, st.tuples(st.integers(1, 3), st.integers(1, 5), st.just(2)), elements=st.floats(-half, half)
        ).map(lambda points: (half, points))
    )
)
@settings(deadline=None, max_examples=100)
def test_psf_is_what_a_loop_over_points_splats(case):
    half, trajectory = case
    size = 2 * half + 1
    ours = draw_psf(torch.from_numpy(trajectory), size)
    assert ours.shape == (len(trajectory), 1, size, size)
    for psf, points in zip(ours[:, 0].numpy(), trajectory, strict=True):
        np.testing.assert_allclose(psf, splatted(points, size), atol=1e-9)


def test_psf_axes_are_rows_then_columns():
    psf = draw_psf(torch.tensor([[[1.0, -2.0]]]), 5)[0, 0]
    assert psf[3, 0] == 1
    assert psf.sum() == 1


def test_image_moves_along_the_trajectory():
    image = torch.zeros(1, 1, 9, 9)
    image[..., 4, 4] = 1
    moved = convolve(image, draw_psf(torch.tensor([[[1.0, -2.0]]]), 5))
    assert moved[0, 0, 5, 2] == 1
    assert moved.sum() == 1


@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("batch", [2, 256, 300], ids=lambda batch: f"batch{batch}")
def test_convolution_is_scipys(padding, channels, batch):
    source = generator()
    images = torch.rand(batch, channels, 12, 9, generator=source)
    psf = torch.rand(batch, 1, 5, 5, generator=source)  # not symmetric, another for each image
    ours = convolve(images, psf, padding)
    assert ours.shape == images.shape
    for i in range(batch):
        for channel in range(channels):
            expected = reference(images[i, channel].double().numpy(), psf[i, 0].double().numpy(), padding)
            np.testing.assert_allclose(ours[i, channel].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize(("size", "side"), [((64, 64), 21), ((70, 101), 25), ((97, 64), 33), ((66, 65), 63)], ids=str)
def test_convolution_of_large_images_in_the_fourier_domain_is_scipys(padding, size, side, monkeypatch):
    monkeypatch.setattr("deblur.blur.psf._FFT_CPU_CHUNK", 2 * 3 * math.prod(size) + 1000)  # two images, if unpadded
    source = generator()
    images, psf = torch.rand(3, 3, *size, generator=source), torch.rand(3, 1, side, side, generator=source)
    psf /= psf.sum((-2, -1), keepdim=True)
    ours = convolve(images, psf, padding)
    assert ours.shape == images.shape
    for i in range(3):
        for channel in range(3):
            expected = reference(images[i, channel].double().numpy(), psf[i, 0].double().numpy(), padding)
            np.testing.assert_allclose(ours[i, channel].numpy(), expected, atol=1e-5)


@given(
    st.sampled_from(["zeros", "reflect", "circular"]),
    st.integers(0, 4),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_convolution_is_scipys_for_any_size(padding, half, extra, seed):
    source = generator(seed)
    side = 2 * half + 1
    image = torch.rand(1, 1, side + extra[0], side + extra[1], generator=source)
    psf = torch.rand(1, 1, side, side, generator=source)
    expected = reference(image[0, 0].double().numpy(), psf[0, 0].double().numpy(), padding)
    np.testing.assert_allclose(convolve(image, psf, padding)[0, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
def test_no_motion_leaves_the_image(padding):
    images = torch.rand(3, 1, 28, 28, generator=generator())
    blur = Line(0, padding=padding)
    assert torch.equal(blur.apply(images, blur.draw(3, (28, 28), generator())), images)


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_white_stays_white_where_the_border_is_continued(padding):
    white = torch.ones(2, 3, 20, 20)
    blur = Line(9, padding=padding)
    torch.testing.assert_close(blur.apply(white, blur.draw(2, (20, 20), generator())), white)


def test_zeros_are_shifted_in_from_outside():
    blur = Line(8, angle=0)
    blurred = blur.apply(torch.ones(1, 1, 20, 20), blur.draw(1, (20, 20), generator()))[0, 0]
    assert blurred[10, 10] == pytest.approx(1, abs=1e-5)
    assert blurred[10, 0] == pytest.approx(0.5, abs=0.1)  # half the exposure the pixel saw what lies outside


def test_blur_uses_the_padding_it_was_given():
    image = torch.rand(1, 1, 16, 16, generator=generator())
    blurs = [Line(7, angle=30, padding=padding) for padding in ("zeros", "reflect", "circular")]
    motion = blurs[0].draw(1, (16, 16), generator())
    results = [blur.apply(image, motion) for blur in blurs]
    for blur, result in zip(blurs, results, strict=True):
        expected = reference(image[0, 0].numpy(), motion.psf[0, 0].numpy(), blur.padding)
        np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-5)
    assert not torch.allclose(results[0], results[1])
    assert not torch.allclose(results[0], results[2])


@pytest.mark.parametrize("side", [1, 5, 9, 21])
@pytest.mark.parametrize("size", [1, 4, 9, 12, 24])
def test_a_psf_in_another_window_keeps_its_origin_and_what_fits(side, size):
    psf = torch.rand(2, 1, side, side, generator=generator())
    window = crop_psf(psf, size)
    assert window.shape == (2, 1, size, size)
    for row in range(size):
        for column in range(size):
            y, x = row - size // 2 + side // 2, column - size // 2 + side // 2
            expected = psf[:, 0, y, x] if 0 <= y < side and 0 <= x < side else torch.zeros(2)
            assert torch.equal(window[:, 0, row, column], expected)


@pytest.mark.parametrize("operation", ["draw_paths", "draw"])
def test_on_a_gpu_paths_and_their_sums_are_what_they_are_here(operation, monkeypatch):
    """What is done otherwise there, in double precision and by a product, done here: the same to rounding."""
    blur = GaussianProcess(length=9) if operation == "draw_paths" else RandomWalk(step=0.1, steps=99)

    def drawn() -> torch.Tensor:
        source = torch.Generator().manual_seed(0)
        return blur.draw_paths(4, source) if operation == "draw_paths" else blur.draw(4, (28, 28), source).trajectory

    here = drawn()
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    there = drawn()
    monkeypatch.undo()
    assert operation == "draw" or not torch.equal(there, here)  # sums are equal: those of the CPU are of doubles, too
    torch.testing.assert_close(there, here, rtol=0, atol=2e-5)
