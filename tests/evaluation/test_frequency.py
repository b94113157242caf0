"""Spectra and high-frequency energy against numpy's FFT and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from deblur.errors import ArgumentError
from deblur.evaluation.frequency import RINGS, ROUNDING_POWER, frequency_metrics, radial_spectrum

SHAPES = [(3, 1, 28, 28), (2, 3, 21, 40), (2, 1, 33, 20)]
FLOOR = 10 * np.log10(ROUNDING_POWER)


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Blurred images with a trend, and sharp ones."""
    rng = np.random.default_rng(seed)
    sharp = rng.random(shape) * 0.5 + np.linspace(0, 0.5, shape[-1])
    return torch.from_numpy(ndimage.gaussian_filter(sharp, (0, 0, 0.7, 0.5))).float(), torch.from_numpy(sharp).float()


def noise(count: int, size: int, sigma: float, seed: int = 0) -> Tensor:
    return 0.5 + sigma * torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def periodic(image: np.ndarray) -> np.ndarray:
    """Moisan's periodic component of an (H, W) image: its inner differences, made periodic, integrated again."""
    height, width = image.shape
    laplacian = np.zeros_like(image)
    for axis in (0, 1):
        difference = np.diff(image, axis=axis)  # none across the border
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 1)
        laplacian += np.diff(np.pad(difference, pad), axis=axis)
    # Solved as a dense linear system of the periodic Laplacian, so that no Fourier transform is in it.
    identity = np.eye(height * width).reshape(-1, height, width)
    operator = sum(np.roll(identity, step, axis) for axis in (1, 2) for step in (1, -1)) - 4 * identity
    solution = np.linalg.lstsq(operator.reshape(len(identity), -1).T, laplacian.ravel(), rcond=None)[0]
    return solution.reshape(height, width) + image.mean() - solution.mean()


def power(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The radius of each frequency and the power of a (C, H, W) image there, by numpy's whole FFT."""
    height, width = image.shape[1:]
    y, x = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    spectrum = np.mean([np.abs(np.fft.fft2(periodic(plane))) ** 2 for plane in image], axis=0) / (height * width)
    return np.hypot(y, x), spectrum


@pytest.mark.parametrize("shape", SHAPES)
def test_both_metrics_are_those_of_numpys_fft(shape):
    images, sharp = pair(shape)
    ours = frequency_metrics(images, sharp)
    for i in range(shape[0]):
        (radius, image), (_, truth) = (power(side[i].double().numpy()) for side in (images, sharp))
        rings = np.ceil(np.round(radius / 0.05, 9))
        errors = [10 * np.log10(image[rings == k].mean() / truth[rings == k].mean()) for k in range(1, RINGS + 1)]
        assert ours["spectrum_error"][i].item() == pytest.approx(np.abs(errors).mean(), abs=1e-3)
        high = radius > 0.25 + 1e-9
        ratio = image[high].sum() / truth[high].sum()
        assert ours["high_frequency_ratio"][i].item() == pytest.approx(ratio, rel=1e-4)
        assert ratio < 0.9
    middles, spectrum = radial_spectrum(sharp)
    assert middles.tolist() == pytest.approx(np.arange(0.025, 0.5, 0.05).tolist())
    expected = [10 * np.log10(truth[rings == k].mean()) for k in range(1, RINGS + 1)]
    np.testing.assert_allclose(spectrum[-1], expected, atol=1e-3)


def test_sharp_image_has_no_error_and_all_energy():
    sharp = pair((2, 3, 40, 30))[1]
    values = frequency_metrics(sharp.clone(), sharp)
    assert values["spectrum_error"].tolist() == [0, 0]
    assert values["high_frequency_ratio"].tolist() == [1, 1]


@given(st.floats(0.1, 0.9), st.integers(20, 45), st.integers(20, 45))
@settings(deadline=None, max_examples=30)
def test_weaker_contrast_is_its_decibels_and_its_energy_at_any_size_and_brightness(contrast, height, width):
    sharp = pair((2, 1, height, width))[1]
    values = frequency_metrics(contrast * sharp + (1 - contrast), sharp)
    assert values["spectrum_error"].tolist() == pytest.approx([-20 * np.log10(contrast)] * 2, abs=1e-3)
    assert values["high_frequency_ratio"].tolist() == pytest.approx([contrast**2] * 2, rel=1e-3)


@pytest.mark.parametrize(("cycles", "expected"), [(12, 0.25), (8, 1.0)], ids=["above a quarter", "below it"])
def test_ratio_is_that_of_the_energy_above_a_quarter_of_the_sampling_frequency(cycles, expected):
    x = torch.arange(40) / 40
    high, other = torch.cos(2 * torch.pi * 12 * x), torch.cos(2 * torch.pi * cycles * x)
    sharp = (0.5 + 0.2 * high + (cycles != 12) * 0.2 * other).expand(1, 1, 40, 40)
    images = (sharp - 0.1 * other).contiguous()
    assert frequency_metrics(images, sharp)["high_frequency_ratio"].item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("size", [20, 28, 64, 200])
def test_white_noise_has_its_variance_at_every_frequency_and_size(size):
    spectrum = radial_spectrum(noise(200_000 // size**2 + 4, size, 0.1))[1]
    mean = (10 ** (spectrum / 10)).mean(dim=0).log10() * 10
    # What is lost to the smooth component is the borders' share, at the lowest frequencies.
    assert mean[2:].tolist() == pytest.approx([-20] * (RINGS - 2), abs=0.5)


def test_metrics_of_one_blur_do_not_depend_on_image_size():
    found = []
    for size in (48, 192):
        sharp = noise(3_000_000 // size**2, size, 0.12)
        images = torch.from_numpy(ndimage.gaussian_filter(sharp.numpy(), (0, 0, 0.6, 0.6), mode="mirror"))
        found.append({name: values.mean().item() for name, values in frequency_metrics(images, sharp).items()})
    assert found[0]["spectrum_error"] == pytest.approx(found[1]["spectrum_error"], rel=0.05)
    assert found[0]["high_frequency_ratio"] == pytest.approx(found[1]["high_frequency_ratio"], rel=0.05)
    assert found[0]["spectrum_error"] > 3


def test_image_on_an_even_background_keeps_its_plain_spectrum():
    image = torch.zeros(1, 1, 28, 28)
    image[:, :, 5:23, 4:24] = pair((1, 1, 18, 20))[1]
    plain = np.abs(np.fft.fft2(image[0, 0].double().numpy())) ** 2 / 784
    y, x = np.meshgrid(np.fft.fftfreq(28), np.fft.fftfreq(28), indexing="ij")
    rings = np.ceil(np.round(np.hypot(y, x) * 28, 9))
    expected = [10 * np.log10(plain[rings == k].mean()) for k in range(1, 15)]
    np.testing.assert_allclose(radial_spectrum(image, 14)[1][0], expected, atol=1e-3)


def test_trend_across_the_image_is_no_edge():
    trend = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    plain = (torch.fft.fft2(trend, norm="ortho").abs() ** 2)[0, 0, 0, 16:33].mean().log10().item() * 10
    assert radial_spectrum(trend)[1][0, 5:].max().item() < plain - 25


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_turning_and_mirroring_both_images_changes_nothing(seed):
    images, sharp = pair((2, 1, 22, 22), seed)
    expected = frequency_metrics(images, sharp)
    for move in (lambda side: side.rot90(1, (2, 3)), lambda side: side.flip(3), lambda side: side.mT):
        for name, values in frequency_metrics(move(images), move(sharp)).items():
            torch.testing.assert_close(values, expected[name], atol=1e-3, rtol=1e-3)


def test_even_images_divide_by_no_zero():
    even, textured = torch.full((1, 1, 28, 28), 0.3), pair((1, 1, 28, 28))[1]
    values = frequency_metrics(torch.cat([even + 0.1, textured]), torch.cat([even, even]))
    assert values["spectrum_error"][0] == 0
    assert values["high_frequency_ratio"][0] == 1
    assert all(value.isfinite().all() for value in values.values())
    assert values["high_frequency_ratio"][1] > 100
    assert radial_spectrum(even)[1].tolist() == [pytest.approx([FLOOR] * RINGS, abs=1e-3)]


def test_images_are_clamped_before_they_are_judged():
    images, sharp = pair((2, 1, 28, 28))
    wild = torch.where(images > 0.6, images + 5, images)
    expected = frequency_metrics(wild.clamp(0, 1), sharp)
    for name, values in frequency_metrics(wild, sharp).items():
        assert torch.equal(values, expected[name])


@given(st.integers(20, 60), st.integers(20, 60))
@settings(deadline=None, max_examples=40)
def test_every_ring_holds_a_frequency(height, width):
    rings = min(height, width) // 2
    assert radial_spectrum(noise(1, 60, 0.1)[..., :height, :width], rings)[1].isfinite().all()


def test_too_small_an_image_and_too_many_rings_are_refused():
    small = torch.zeros(1, 1, 19, 40)
    with pytest.raises(ArgumentError, match="at least 20x20 pixels"):
        frequency_metrics(small, small)
    with pytest.raises(ArgumentError, match=r"rings=10: must be a whole number from 1 to 9"):
        radial_spectrum(small)


def test_spectra_have_full_precision_under_autocast_and_a_gradient_after_an_evaluation():
    images, sharp = pair((2, 1, 24, 23))  # a size that no other test has put into the cache
    with torch.inference_mode():
        expected = frequency_metrics(images, sharp)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = frequency_metrics(images, sharp)
    for name, values in expected.items():
        assert torch.equal(ours[name], values)
    frequency_metrics(images.requires_grad_(), sharp)["spectrum_error"].sum().backward()
