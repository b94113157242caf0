"""MS-SSIM against scipy's filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from deblur.errors import ArgumentError
from deblur.evaluation.multiscale import SMALLEST, ms_ssim

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of Wang et al. 2003, coarse scales last


def pair(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Smooth images in [0, 1], and the same with noise that grows from image to image."""
    rng = np.random.default_rng(0)
    sharp = ndimage.gaussian_filter(rng.random(shape), (0, 0, 2, 2)) * 6 - 2.5
    images = sharp + np.linspace(0.05, 0.4, shape[0])[:, None, None, None] * rng.normal(size=shape)
    return torch.from_numpy(images).float().clamp(0, 1), torch.from_numpy(sharp).float().clamp(0, 1)


def terms(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The mean similarity of (C, H, W) images, and its mean without luminance where the window of 11 pixels fits."""

    def blurred(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, sigma=(0, 1.5, 1.5), truncate=3.5, mode="mirror")

    mean_x, mean_y = blurred(x), blurred(y)
    variance_x, variance_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    structure = (2 * (blurred(x * y) - mean_x * mean_y) + 0.03**2) / (variance_x + variance_y + 0.03**2)
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return (structure * luminance).mean(), structure[:, 5:-5, 5:-5].mean()


def halved(image: np.ndarray) -> np.ndarray:
    height, width = (size // 2 * 2 for size in image.shape[1:])
    return image[:, :height, :width].reshape(len(image), height // 2, 2, width // 2, 2).mean(axis=(2, 4))


@pytest.mark.parametrize("shape", [(3, 1, 176, 176), (2, 3, 181, 207)])
def test_ms_ssim_of_each_image_is_the_product_over_scales_of_scipys_filters(shape):
    images, sharp = pair(shape)
    ours = ms_ssim(images, sharp)
    assert ours.shape == (shape[0],)
    for i in range(shape[0]):
        x, y = images[i].double().numpy(), sharp[i].double().numpy()
        expected = 1.0
        for scale, exponent in enumerate(EXPONENTS):
            similarity, structure = terms(x, y)
            expected *= (similarity if scale == 4 else structure) ** exponent
            x, y = halved(x), halved(y)
        assert ours[i].item() == pytest.approx(expected, abs=1e-4)
    assert ours.diff().abs().min() > 0.01


def test_sharp_images_have_one_and_both_sides_are_clamped():
    images, sharp = pair((1, 1, 180, 180))
    assert ms_ssim(sharp, sharp).item() == pytest.approx(1, abs=1e-5)
    beyond = torch.where(sharp == 1, 4.0, sharp)
    assert beyond.max() == 4
    assert torch.equal(ms_ssim(images, beyond), ms_ssim(images, sharp))


@pytest.mark.parametrize("shape", [(1, 1, SMALLEST - 1, 300), (1, 1, 300, SMALLEST - 1)])
def test_images_that_the_window_does_not_fit_at_the_fifth_scale_are_refused(shape):
    with pytest.raises(ArgumentError, match="at least 176x176 pixels"):
        ms_ssim(torch.zeros(shape), torch.zeros(shape))
