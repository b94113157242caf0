"""The Wiener filters: the inverse of a periodic blur, the formula written out, and what they do at borders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deblur.blur import Shake
from deblur.blur.psf import convolve, crop_psf, good_size
from deblur.errors import ArgumentError
from deblur.metrics import image_metrics
from deblur.models.fourier import continued, laplacian, power, transfer_function
from deblur.models.wiener import WienerFilters


def psfs(count: int, length: float = 9) -> Tensor:
    return Shake(length=length).draw(count, (64, 64), torch.Generator().manual_seed(1)).psf


def smooth(count: int, channels: int, size: int) -> Tensor:
    """Random images of edges and slopes that reach beyond every border."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 6, 6, generator=source)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").mul(8).round().div(8)


def test_it_is_wieners_formula():
    blurred, psf = torch.rand(2, 3, 20, 17, generator=torch.Generator().manual_seed(0)), psfs(2, 5)
    filters = WienerFilters(2).double()
    with torch.no_grad():
        filters.log_noise.copy_(torch.tensor([0.02, 0.1], dtype=torch.float64).log())
        filters.log_roughness.copy_(torch.tensor([0.01, 0.03], dtype=torch.float64).log())
        made = filters(blurred.double(), psf)
    shape = (good_size(20 + 6), good_size(17 + 6))
    rows, columns = (np.fft.fftfreq(side) for side in shape)
    rough = 4 - 2 * np.cos(2 * np.pi * rows)[:, None] - 2 * np.cos(2 * np.pi * columns)

    def restored(image: np.ndarray, kernel: np.ndarray, noise: float, roughness: float) -> np.ndarray:
        grid = np.zeros(shape)
        for y, x in np.ndindex(7, 7):
            grid[(y - 3) % shape[0], (x - 3) % shape[1]] += kernel[y, x]
        transfer = np.fft.fft2(grid)
        factor = transfer.conj() / (np.abs(transfer) ** 2 + noise + roughness * rough)
        return np.fft.ifft2(np.fft.fft2(image) * factor).real, transfer

    for n, c in np.ndindex(2, 3):
        kernel = psf[n, 0].double().numpy()
        whole = continued(blurred.double(), shape)[n, c].numpy()
        guess, transfer = restored(whole, kernel, 0.1, 0.03)  # by the middle filter, the second of two
        whole = np.fft.ifft2(np.fft.fft2(guess) * transfer).real
        whole[:20, :17] = blurred[n, c].double().numpy()
        for number, (noise, roughness) in enumerate(((0.02, 0.01), (0.1, 0.03))):
            expected = restored(whole, kernel, noise, roughness)[0][:20, :17]
            np.testing.assert_allclose(made[n, 3 * number + c].numpy(), expected, atol=1e-9)


def test_beyond_the_borders_it_goes_in_a_line_from_one_to_the_other():
    images = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    whole = continued(images, (9, 10))
    assert torch.equal(whole[..., :5, :6], images)
    torch.testing.assert_close(whole[0, 0, 2, 5:].diff().diff(), torch.zeros(3), atol=1e-6, rtol=0)
    for dim in (-2, -1):  # the step over the seam is as small as those before it
        torch.testing.assert_close(
            whole.select(dim, 0) - whole.select(dim, -1), whole.narrow(dim, -2, 2).diff(dim=dim).squeeze(dim)
        )


def test_what_lies_beyond_the_borders_spoils_less_than_where_the_image_is_taken_for_periodic():
    scene, psf = smooth(6, 1, 100), psfs(6)
    blurred, sharp = (images[..., 16:-16, 16:-16] for images in (convolve(scene, psf), scene))
    filters = WienerFilters(1)
    with torch.no_grad():
        filters.log_noise.fill_(math.log(1e-3))
        filters.log_roughness.fill_(math.log(1e-3))
        made = filters(blurred, psf)
        transfer = transfer_function(psf, (68, 68))
        factor = transfer.conj() / (power(transfer) + 1e-3 + 1e-3 * laplacian((68, 68), psf))
        periodic = torch.fft.irfft2(factor * torch.fft.rfft2(blurred), s=(68, 68))
    mine, naive, before = (image_metrics(images, sharp)["psnr"].mean() for images in (made, periodic, blurred))
    assert mine > before + 4
    assert mine > naive + 3


def test_a_psf_of_an_even_side_has_its_origin_where_estimates_have_it():
    blurred, psf = smooth(2, 1, 24), psfs(2, 5)
    blurred[..., :5, :], blurred[..., -5:, :], blurred[..., :5], blurred[..., -5:] = 0, 0, 0, 0
    filters = WienerFilters(1)
    with torch.no_grad():
        odd, even = filters(blurred, psf), filters(blurred, crop_psf(psf, 8))  # their grids differ a little
    torch.testing.assert_close(even, odd, atol=0.06, rtol=0)
    assert (even.roll(1, -1) - odd).abs().max() > 0.3


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (3, 50)])
def test_any_size_is_kept_and_every_strength_learns(size):
    filters = WienerFilters(3)
    made = filters(torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(0)), psfs(2))
    assert made.shape == (2, 6, *size)
    assert made.isfinite().all()
    made.square().sum().backward()
    assert (filters.log_noise.grad != 0).all()
    if size != (1, 1):
        assert (filters.log_roughness.grad != 0).all()


@pytest.mark.parametrize("value", [0, 1.5, "three"])
def test_a_number_of_filters_out_of_range_is_refused(value):
    with pytest.raises(ArgumentError, match=r"^filters="):
        WienerFilters(value)
