"""Shift-tolerant PSNR against scikit-image on every shift, and against images whose shift is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from deblur.errors import ArgumentError
from deblur.evaluation.alignment import aligned_psnr
from deblur.metrics import image_metrics


def scene(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 1, 12, 9), (2, 3, 15, 20)])
def test_it_is_scikit_images_best_over_all_shifts(shape):
    sharp = scene(shape)
    images = (sharp.roll((1, -2), (2, 3)) + 0.3 * scene(shape, 1)).clamp(0, 1)
    height, width = shape[2:]
    ours = aligned_psnr(images, sharp, max_shift=2)
    for i in range(shape[0]):
        image, truth = images[i].double().numpy(), sharp[i].double().numpy()
        every = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                moved = np.roll(image, (-dy, -dx), (1, 2))  # what comes in from the other side is cut off
                common = np.s_[:, max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
                every.append(peak_signal_noise_ratio(truth[common], moved[common], data_range=1))
        assert ours[i].item() == pytest.approx(max(every), abs=1e-4)


shifts = st.integers(-3, 3)


@given(shifts, shifts, st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_image_moved_by_whole_pixels_has_the_plain_psnr_of_the_aligned_image(dy, dx, seed):
    whole = scene((2, 1, 26, 22), seed)
    restored = (whole + 0.02 * scene(whole.shape, seed + 1)).clamp(0, 1)
    sharp, moved = whole[..., 3:-3, 3:-3], restored[..., 3 + dy : 23 + dy, 3 + dx : 19 + dx]
    # On the common area, cut out of the scene by its own coordinates.
    common = np.s_[..., 3 + max(dy, 0) : 23 + min(dy, 0), 3 + max(dx, 0) : 19 + min(dx, 0)]
    expected = image_metrics(restored[common], whole[common])["psnr"]
    torch.testing.assert_close(aligned_psnr(moved, sharp), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(aligned_psnr(sharp, moved), expected, atol=1e-3, rtol=0)
    assert (aligned_psnr(whole[..., 3 + dy : 23 + dy, 3 + dx : 19 + dx], sharp) == 100).all()


def test_no_shift_is_plain_psnr_and_more_shifts_are_never_worse():
    sharp = scene((700, 1, 12, 12))
    images = (sharp.roll(2, 3) + 0.3 * scene(sharp.shape, 1)).clamp(0, 1)
    plain = image_metrics(images, sharp)["psnr"]
    values = [aligned_psnr(images, sharp, shift) for shift in range(4)]
    torch.testing.assert_close(values[0], plain, atol=1e-4, rtol=0)
    assert all((more >= less).all() for less, more in pairwise(values))
    assert (values[2] > values[1] + 3).all()


def test_a_shift_beyond_the_largest_is_an_error():
    sharp = scene((2, 1, 20, 20))
    assert (aligned_psnr(sharp.roll(4, 3), sharp) < 12).all()


def test_images_are_clamped_before_they_are_judged():
    sharp = scene((2, 1, 20, 20)).round()
    assert aligned_psnr(3 * sharp - 1, sharp).tolist() == [100, 100]


@pytest.mark.parametrize("max_shift", [-1, 10, 1.5])
def test_shifts_that_leave_no_common_area_are_refused(max_shift):
    with pytest.raises(ArgumentError, match=r"max_shift=.*from 0 to 9"):
        aligned_psnr(scene((1, 1, 20, 25)), scene((1, 1, 20, 25)), max_shift)


def test_a_bright_image_is_aligned_as_exactly_as_a_dark_one():
    smooth = torch.nn.functional.avg_pool2d(scene((4, 1, 270, 270)), 15, stride=1)  # shifts differ little
    sharp = 0.3 * smooth
    moved = sharp.roll((1, 2), (2, 3)) + 0.0005 * scene(sharp.shape, 1)
    torch.testing.assert_close(aligned_psnr(moved + 0.8, sharp + 0.8), aligned_psnr(moved, sharp), atol=0.02, rtol=0)


@pytest.mark.parametrize("judge", [aligned_psnr, lambda images, sharp: image_metrics(images, sharp)["ssim"]])
def test_how_images_lie_in_memory_does_not_matter(judge):
    sharp = scene((5, 3, 20, 16))
    images = (sharp.roll(1, 3) + 0.1 * scene(sharp.shape, 1)).clamp(0, 1)
    expected = judge(images, sharp)
    last = torch.channels_last
    for other, truth in (
        (images.contiguous(memory_format=last), sharp),
        (images.contiguous(memory_format=last), sharp.contiguous(memory_format=last)),
        (images.mT.contiguous().mT, sharp),
        (torch.stack([images, sharp], dim=-1)[..., 0], sharp),
    ):
        torch.testing.assert_close(judge(other, truth), expected, atol=1e-4, rtol=0)
    assert judge(images[:0], sharp[:0]).shape == (0,)
    grey = sharp[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(judge(images, grey), judge(images, grey.contiguous()), atol=1e-4, rtol=0)
