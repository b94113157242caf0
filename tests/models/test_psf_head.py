"""The head for the PSF: always a PSF, of any size; the truth of what it solves; it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deblur.blur import Shake
from deblur.blur.psf import convolve, crop_psf
from deblur.errors import ArgumentError
from deblur.metrics import psf_correlation
from deblur.models.fourier import solve_psf, window
from deblur.models.psf_head import PSFHead


def scene(count: int = 4, channels: int = 1, size: tuple[int, int] = (40, 37)) -> tuple[Tensor, Tensor, Tensor]:
    """Sharp, blurred and PSFs, in a black frame that nothing leaves."""
    source = torch.Generator().manual_seed(0)
    sharp = torch.zeros(count, channels, *size)
    sharp[..., 8:-8, 8:-8] = torch.rand(count, channels, size[0] - 16, size[1] - 16, generator=source)
    psf = Shake(length=9).draw(count, size, source).psf
    return sharp, convolve(sharp, psf), psf


@pytest.mark.parametrize("side", [11, 12, 21])
def test_least_squares_find_the_psf_with_its_origin_in_the_windows_middle(side):
    sharp, blurred, psf = (tensor.double() for tensor in scene())
    shape = (60, 57)
    fx, fy = torch.fft.rfft2(sharp, s=shape), torch.fft.rfft2(blurred, s=shape)
    found = window(solve_psf(fx, fy, torch.tensor([0.0, 1e-9], dtype=torch.float64), shape), side)
    assert found.shape == (4, 2, side, side)
    torch.testing.assert_close(found, crop_psf(psf, side).expand(-1, 2, -1, -1), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (19, 33)), (2, (3, 4)), (1, (1, 1))])
@pytest.mark.parametrize("side", [1, 8, 15])
def test_it_is_a_psf_by_construction_for_any_images(channels, size, side):
    torch.manual_seed(0)
    head = PSFHead(channels, side, width=4, filters=2)
    for images in (torch.rand(2, channels, *size), torch.zeros(2, channels, *size)):
        psf = head(images, images * 0.5)
        assert psf.shape == (2, 1, side, side)
        assert (psf >= 0).all()
        torch.testing.assert_close(psf.sum((1, 2, 3)), torch.ones(2))


def test_every_parameter_learns():
    torch.manual_seed(0)
    sharp, blurred, psf = scene()
    head = PSFHead(1, 11, width=4, filters=2)
    (head(blurred, sharp) - crop_psf(psf, 11)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in head.parameters())


def test_given_the_sharp_image_it_soon_knows_the_psf_better_than_a_blob():
    torch.manual_seed(0)
    sharp, blurred, psf = scene(16)
    head = PSFHead(1, 11, width=8)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        (head(blurred, sharp) - crop_psf(psf, 11)).square().sum((1, 2, 3)).mean().backward()
        optimizer.step()
    offsets = torch.arange(11) - 5
    blob = (-(offsets[:, None] ** 2 + offsets**2) / (2 * 2.0**2)).exp().expand(16, 1, 11, 11)
    with torch.no_grad():
        found = psf_correlation(head(blurred, sharp), psf).mean()
    assert found > psf_correlation(blob, psf).mean() + 0.1


@pytest.mark.parametrize(("key", "value"), [("channels", 0), ("psf_size", 0), ("width", 1.5), ("filters", 0)])
def test_sizes_out_of_range_are_refused(key, value):
    with pytest.raises(ArgumentError, match=rf"^{key}="):
        PSFHead(**{"channels": 1, "psf_size": 5} | {key: value})
