"""The sRGB transfer function against scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2xyz
from skimage.color.colorconv import xyz_from_rgb

from deblur.blur.srgb import srgb_decode, srgb_encode


def test_decoding_is_that_of_scikit_image():
    encoded = np.random.default_rng(0).random((50, 60, 3))
    encoded[0] /= 20  # the straight part, below 0.04045
    light = rgb2xyz(encoded) @ np.linalg.inv(xyz_from_rgb).T
    np.testing.assert_allclose(srgb_decode(torch.from_numpy(encoded)), light, atol=1e-12)


@pytest.mark.parametrize(("encoded", "light"), [(0.0, 0.0), (0.04, 0.04 / 12.92), (0.5, 0.21404114), (1.0, 1.0)])
def test_known_values(encoded, light):
    assert srgb_decode(torch.tensor(encoded)).item() == pytest.approx(light, abs=1e-7)
    assert srgb_encode(torch.tensor(light)).item() == pytest.approx(encoded, abs=1e-6)


@given(st.lists(st.floats(-1, 4), min_size=1, max_size=50))
def test_encoding_undoes_decoding_and_both_rise(values):
    encoded = torch.tensor(sorted(values), dtype=torch.float64)
    light = srgb_decode(encoded)
    torch.testing.assert_close(srgb_encode(light), encoded, atol=2e-7, rtol=0)
    assert (light.diff() >= -1e-7).all()
