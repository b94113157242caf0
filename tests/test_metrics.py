"""PSNR, SSIM and MSE against scikit-image, scipy and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.signal import correlate2d
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from deblur.metric_names import is_better
from deblur.metrics import NAMES, RestorationMetrics, image_metrics, psf_correlation, psnr_of, ssim

SHAPES = [(5, 1, 28, 28), (3, 3, 17, 40)]


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth images in [0, 1], and the same with noise that grows from image to image."""
    rng = np.random.default_rng(seed)
    sharp = ndimage.gaussian_filter(rng.random(shape), (0, 0, 1, 1)) * 3 - 1
    images = sharp + np.linspace(0.01, 0.4, shape[0])[:, None, None, None] * rng.normal(size=shape)
    return torch.from_numpy(images).float().clamp(0, 1), torch.from_numpy(sharp).float().clamp(0, 1)


def filtered_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map of structural similarity of two (H, W) images: Wang et al. 2004 with scipy's mirrored Gaussian filter."""

    def blurred(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, sigma=1.5, truncate=3.5, mode="mirror")

    mean_x, mean_y = blurred(x), blurred(y)
    variance_x, variance_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


@pytest.mark.parametrize("shape", SHAPES)
def test_psnr_and_mse_of_each_image_are_scikit_images(shape):
    images, sharp = pair(shape)
    ours = image_metrics(images, sharp)
    for i in range(shape[0]):
        truth, image = sharp[i].double().numpy(), images[i].double().numpy()
        assert ours["psnr"][i].item() == pytest.approx(peak_signal_noise_ratio(truth, image, data_range=1), abs=1e-4)
        assert ours["mse"][i].item() == pytest.approx(mean_squared_error(truth, image), rel=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 1, 6, 9), (2, 1, 3, 4), (1, 2, 1, 1)])
def test_ssim_is_that_of_scipys_filter(shape):
    images, sharp = pair(shape)
    ours = ssim(images, sharp)
    assert ours.shape == (shape[0],)
    for i in range(shape[0]):
        maps = [filtered_ssim(*planes) for planes in zip(images[i].double(), sharp[i].double(), strict=True)]
        assert ours[i].item() == pytest.approx(np.mean(maps), abs=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_torchmetrics(shape):
    images, sharp = pair(shape)
    expected = structural_similarity_index_measure(images, sharp, data_range=(0.0, 1.0), reduction="none")
    torch.testing.assert_close(ssim(images, sharp), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_scikit_images_before_it_crops(shape):
    images, sharp = pair(shape)
    for i in range(shape[0]):
        cropped, full = structural_similarity(
            sharp[i].double().numpy(),
            images[i].double().numpy(),
            data_range=1,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        # scikit-image repeats the edge pixel: the same map but for the border of five pixels, which it then crops.
        maps = np.stack([filtered_ssim(*planes) for planes in zip(images[i].double(), sharp[i].double(), strict=True)])
        inside = (slice(None), slice(5, -5), slice(5, -5))
        np.testing.assert_allclose(maps[inside], full[inside], atol=1e-6)
        assert maps[inside].mean() == pytest.approx(cropped, abs=1e-6)
        assert ssim(images[i : i + 1], sharp[i : i + 1]).item() == pytest.approx(full.mean(), abs=0.01)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_ssim_is_symmetric_at_most_one_and_one_only_for_the_truth(seed):
    images, sharp = pair((2, 1, 12, 15), seed)
    value = ssim(images, sharp)
    assert (value < 1).all()
    assert (value > -1).all()
    torch.testing.assert_close(ssim(sharp, images), value, atol=1e-5, rtol=0)
    torch.testing.assert_close(ssim(sharp, sharp), torch.ones(2), atol=1e-5, rtol=0)


def test_exact_image_has_100_db_and_no_infinity():
    sharp = pair((2, 1, 28, 28))[1]
    exact = image_metrics(sharp.clone(), sharp)
    assert exact["psnr"].tolist() == [100, 100]
    assert exact["mse"].tolist() == [0, 0]
    assert psnr_of(torch.tensor([0.0, 1e-20, 1e-10, 1e-3, 1.0])).tolist() == pytest.approx([100, 100, 100, 30, 0])


def test_images_are_clamped_before_they_are_judged():
    images, sharp = pair((2, 1, 28, 28))
    beyond = torch.where(images == 0, -0.7, torch.where(images == 1, 1.9, images))
    assert beyond.min() < 0
    assert beyond.max() > 1
    for name, values in image_metrics(beyond, sharp).items():
        assert torch.equal(values, image_metrics(images, sharp)[name])


def test_psnr_is_the_mean_over_images_not_that_of_the_pooled_error():
    images, sharp = pair((5, 1, 28, 28))
    metrics = RestorationMetrics()
    metrics.update(images, images, sharp)
    each = [peak_signal_noise_ratio(t.numpy(), i.numpy(), data_range=1) for t, i in zip(sharp, images, strict=True)]
    assert metrics.compute()["psnr"] == pytest.approx(np.mean(each), abs=1e-4)
    assert metrics.compute()["psnr"] != pytest.approx(
        peak_signal_noise_ratio(sharp.numpy(), images.numpy(), data_range=1), abs=0.5
    )


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
@settings(deadline=None, max_examples=30)
def test_means_are_over_all_images_whatever_the_batching(sizes):
    count = sum(sizes)
    restored, sharp = pair((count, 1, 12, 12))
    blurred = pair((count, 1, 12, 12), seed=1)[0]
    metrics = RestorationMetrics()
    for batch in zip(restored.split(sizes), blurred.split(sizes), sharp.split(sizes), strict=True):
        metrics.update(*batch)
    means = metrics.compute()
    assert tuple(means) == NAMES
    assert all(type(value) is float for value in means.values())
    for suffix, images in (("", restored), ("_blurred", blurred)):
        for name, values in image_metrics(images, sharp).items():
            assert means[name + suffix] == pytest.approx(values.double().mean().item(), rel=1e-6)
    assert means["psnr_gain"] == pytest.approx(means["psnr"] - means["psnr_blurred"])


def test_nothing_is_left_after_a_reset():
    bad, sharp = pair((4, 1, 12, 12))
    metrics = RestorationMetrics()
    metrics.update(bad, bad, sharp)
    metrics.reset()
    metrics.update(sharp, bad, sharp)
    assert metrics.compute()["psnr"] == 100


def test_gain_of_what_changes_nothing_is_zero():
    blurred, sharp = pair((4, 1, 12, 12))
    metrics = RestorationMetrics()
    metrics.update(blurred, blurred, sharp)
    assert metrics.compute()["psnr_gain"] == 0


def test_metrics_have_full_precision_under_autocast():
    images, sharp = pair((5, 1, 28, 28))
    expected = image_metrics(images, sharp)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = image_metrics(images, sharp)
    for name, values in expected.items():
        torch.testing.assert_close(ours[name], values, atol=1e-5, rtol=0)


def test_ssim_has_a_gradient_also_after_an_evaluation():
    images, sharp = pair((2, 1, 13, 19))  # a size that no other test has put into the cache
    with torch.inference_mode():
        ssim(images, sharp)
    ssim(images.requires_grad_(), sharp).mean().backward()


@pytest.mark.parametrize(("side", "other"), [(9, 9), (8, 15), (21, 6)])
def test_psf_correlation_is_scipys_at_its_best_shift(side, other):
    source = torch.Generator().manual_seed(0)
    found, true = (torch.rand(4, 1, n, n, generator=source) ** 4 for n in (side, other))
    for value, k, m in zip(psf_correlation(found, true), found[:, 0].numpy(), true[:, 0].numpy(), strict=True):
        expected = correlate2d(k, m).max() / (np.linalg.norm(k) * np.linalg.norm(m))
        assert value.item() == pytest.approx(expected, abs=1e-5)
        assert expected < 0.99


@given(st.integers(-3, 3), st.integers(-3, 3), st.floats(0.1, 10))
@settings(deadline=None, max_examples=20)
def test_psf_correlation_forgives_a_shift_and_a_factor_and_nothing_else(down, right, factor):
    psf = torch.zeros(1, 1, 15, 15)
    psf[..., 4:11, 4:11] = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    assert psf_correlation(factor * psf.roll((down, right), (-2, -1)), psf).item() == pytest.approx(1, abs=1e-5)
    assert psf_correlation(psf.mT, psf).item() < 0.95


def test_a_psf_of_nothing_correlates_with_none():
    assert psf_correlation(torch.zeros(2, 1, 5, 5), torch.ones(2, 1, 5, 5)).tolist() == [0, 0]


def test_the_mean_correlation_is_there_where_psfs_are_found():
    images, sharp = pair((5, 1, 12, 12))
    metrics = RestorationMetrics(psf=True)
    metrics.update(images, images, sharp)
    assert tuple(metrics.compute()) == NAMES
    metrics.reset()
    for part, values in ((slice(0, 2), [0.5, 0.9]), (slice(2, 5), [0.1, 0.2, 0.3])):
        metrics.update(images[part], images[part], sharp[part], torch.tensor(values))
    assert metrics.compute()["psf_correlation"] == pytest.approx(0.4)


@pytest.mark.parametrize(("name", "better"), [("val/psnr", 2.0), ("val/mse", 1.0), ("train/loss", 1.0)])
def test_of_equal_values_none_is_better(name, better):
    worse = 3.0 - better
    assert is_better(name, better, worse)
    assert not is_better(name, worse, better)
    assert not is_better(name, better, better)
