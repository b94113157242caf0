"""Blur with given PSFs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from deblur.blur import Kernels
from deblur.errors import ArgumentError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


odd_psfs = (
    st.tuples(st.integers(1, 4), st.integers(0, 4))
    .flatmap(lambda s: arrays.arrays(np.uint8, (s[0], 2 * s[1] + 1, 2 * s[1] + 1)))
    .filter(lambda psfs: (psfs.sum(axis=(1, 2)) > 0).all())
)


def centroids(psfs: np.ndarray) -> np.ndarray:
    return np.array([ndimage.center_of_mass(psf) for psf in psfs]) - psfs.shape[-1] // 2


@given(odd_psfs)
@settings(deadline=None, max_examples=80)
def test_centroid_registration_keeps_mass_and_centres_the_centroid(raw):
    psfs = Kernels(torch.from_numpy(raw)).psfs
    assert psfs.shape[0] == len(raw)
    assert psfs.shape[-1] % 2 == 1
    assert (psfs >= 0).all()
    torch.testing.assert_close(psfs.sum(dim=(1, 2, 3)), torch.ones(len(raw)), atol=1e-5, rtol=0)
    np.testing.assert_allclose(centroids(psfs[:, 0].double().numpy()), 0, atol=1e-5)


@given(odd_psfs)
@settings(deadline=None, max_examples=40)
def test_centred_psf_is_the_one_that_scipy_shifts(raw):
    ours = Kernels(torch.from_numpy(raw)).psfs[:, 0].double().numpy()
    side = 4 * raw.shape[-1] + 1
    for psf, given_psf in zip(ours, raw, strict=True):
        wide = np.zeros((side, side))
        start = side // 2 - len(given_psf) // 2
        wide[start : start + len(given_psf), start : start + len(given_psf)] = given_psf / given_psf.sum()
        move = side // 2 - np.array(ndimage.center_of_mass(wide))
        expected = ndimage.shift(wide, move, order=1, mode="grid-constant")
        widened = np.pad(psf, side // 2 - len(psf) // 2)
        np.testing.assert_allclose(widened, expected, atol=1e-6)


def test_point_off_centre_becomes_a_point_in_the_centre():
    raw = torch.zeros(1, 9, 9)
    raw[0, 1, 6] = 5.0
    assert torch.equal(Kernels(raw).psfs, torch.ones(1, 1, 1, 1))


def test_given_registration_only_scales_to_mass_one():
    raw = torch.rand(3, 5, 5, generator=generator())
    torch.testing.assert_close(
        Kernels(raw, registration="given").psfs[:, 0], raw / raw.sum(dim=(1, 2), keepdim=True), atol=1e-7, rtol=0
    )


def test_drawn_psfs_are_the_given_ones_equally_often():
    raw = torch.eye(9).view(9, 3, 3)[:4]
    motion = Kernels(raw, registration="given").draw(4000, (28, 28), generator())
    assert motion.psf.shape == (4000, 1, 3, 3)
    assert motion.trajectory is None
    counts = motion.psf.sum(dim=0).flatten()[:4]
    assert counts.sum() == 4000
    assert counts.min() > 900
    again = Kernels(raw, registration="given").draw(4000, (28, 28), generator())
    assert torch.equal(motion.psf, again.psf)


@pytest.mark.parametrize(
    "psfs",
    [
        torch.ones(3, 3),
        torch.ones(1, 1, 3, 3),
        torch.ones(2, 3, 5),
        torch.ones(2, 4, 4),
        torch.ones(0, 3, 3),
        torch.zeros(2, 3, 3),
        torch.tensor([[[1.0, -0.1, 1.0]] * 3]),
        torch.full((1, 3, 3), float("nan")),
        torch.full((1, 3, 3), float("inf")),
        torch.stack([torch.ones(3, 3), torch.zeros(3, 3)]),
    ],
    ids=["2d", "4d", "oblong", "even", "none", "zero", "negative", "nan", "inf", "one_of_two_zero"],
)
def test_what_is_no_psf_is_refused(psfs):
    with pytest.raises(ArgumentError) as refused:
        Kernels(psfs)
    assert refused.value.name == "psfs"


def test_unknown_registration_is_refused():
    with pytest.raises(ArgumentError, match="centroid, given") as refused:
        Kernels(torch.ones(1, 3, 3), registration="start")
    assert refused.value.name == "registration"


def test_psf_larger_than_the_image_is_refused():
    blur = Kernels(torch.ones(1, 9, 9))
    assert blur.draw(2, (9, 20), generator()).psf.shape == (2, 1, 9, 9)
    with pytest.raises(ArgumentError, match="at most 8") as refused:
        blur.draw(2, (20, 8), generator())
    assert refused.value.name == "psfs"
