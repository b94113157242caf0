"""The coarse-to-fine network: any size, finite everywhere, and what its stages find when they are given the truth."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import convolve2d
from torch import Tensor, nn

from deblur.errors import ArgumentError
from deblur.metrics import psf_correlation
from deblur.models import CoarseToFine
from deblur.models.coarse_to_fine import doubled, halved
from deblur.models.estimates import reduced
from deblur.models.fourier import solve_psf, window

HALF = 6  # of the window for the PSF, pixels


def make(channels: int = 1, **changes) -> CoarseToFine:
    torch.manual_seed(0)
    small = {"widths": [8, 12], "coarse_widths": [8, 12], "psf_size": 2 * HALF, "psf_width": 8, "psf_hidden": 16}
    return CoarseToFine(channels, **small | {"stages": [2, 2], "filters": 2} | changes).eval()


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (37, 50)), (1, (9, 7)), (2, (5, 41)), (1, (1, 1))])
@pytest.mark.parametrize("stages", [(1, 1), (2, 1), (1, 3)])
def test_any_size_and_number_of_channels_is_kept(channels, size, stages):
    network, blurred = make(channels, stages=stages), noise(2, channels, *size)
    with torch.no_grad():
        estimates = network.estimates(blurred)
        restored = network(blurred)
    assert torch.equal(restored, estimates.images[-1])
    assert not torch.equal(restored, blurred)
    coarse, fine = stages
    half = (2, 1, *(-(-side // 2) for side in size))
    assert [image.shape for image in estimates.images] == [half] * (1 + coarse) + [blurred.shape] * fine
    assert [psf.shape for psf in estimates.psfs] == [(2, 1, 2 * HALF, 2 * HALF)] * (coarse + fine)
    assert all(made.isfinite().all() for made in [*estimates.images, *estimates.psfs])


def test_odd_sizes_are_padded_with_their_border_below_and_right_and_cropped_back():
    network, blurred = make(), noise(1, 1, 43, 53)
    with torch.no_grad():
        whole = network(F.pad(blurred, (0, 3, 0, 5), mode="replicate"))
        torch.testing.assert_close(network(blurred), whole[..., :43, :53])


def test_with_zero_last_layers_every_image_is_the_blurred_one():
    network, blurred = make(3), noise(2, 3, 32, 40)
    for unet in (network.first, *(stage.restore for stage in [*network.coarse, *network.fine])):
        nn.init.zeros_(unet.head.weight)
        nn.init.zeros_(unet.head.bias)
    with torch.no_grad():
        images = network.estimates(blurred).images
    for image in images:
        torch.testing.assert_close(image, reduced(blurred, image.shape))
    assert torch.equal(images[-1], blurred)


def test_what_the_coarse_stages_changed_reaches_all_channels_of_the_fine_ones():
    network, blurred, seen = make(3), noise(1, 3, 32, 32), []
    network.fine[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        coarse = network.estimates(blurred).images[2]
    change = seen[0] - blurred
    torch.testing.assert_close(change, change[:, :1].expand_as(change), atol=1e-6, rtol=0)
    expected = F.interpolate(coarse - reduced(blurred, coarse.shape), (32, 32), mode="bilinear")
    torch.testing.assert_close(change[:, :1], expected, atol=1e-6, rtol=0)


def test_each_stage_hears_of_the_psf_before():
    network, blurred, seen = make(), noise(2, 1, 32, 32), []
    for stage in [*network.coarse, *network.fine]:
        stage.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    with torch.no_grad():
        psfs = network.estimates(blurred).psfs
    assert seen[0] is None
    for given_psf, made in zip(seen[1:], psfs[:-1], strict=True):
        assert torch.equal(given_psf, made)


def test_images_of_a_batch_do_not_see_each_other():
    network, blurred = make(3), noise(4, 3, 20, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(blurred)[2:3], network(blurred[2:3]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blurred", [torch.zeros(2, 1, 28, 28), torch.ones(2, 1, 28, 28), noise(2, 1, 28, 28)])
def test_gradients_are_finite(blurred):
    network, blurred = make(), blurred.clone().requires_grad_()
    network(blurred).square().mean().backward()
    assert blurred.grad.isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_mixed_and_low_precision_change_little():
    network, blurred = make(), noise(2, 1, 28, 28)
    with torch.no_grad():
        expected = network(blurred)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(network(blurred).float(), expected, atol=0.05, rtol=0)
        low = network.to(torch.bfloat16)(blurred.to(torch.bfloat16))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, atol=0.1, rtol=0)


def test_double_precision_stays():
    estimates = make().double().estimates(noise(1, 1, 30, 33).double())
    assert {made.dtype for made in [*estimates.images, *estimates.psfs]} == {torch.float64}


def test_the_psf_is_non_negative_with_sum_one():
    with torch.no_grad():
        psfs = make().estimates(noise(4, 1, 64, 64)).psfs
    for psf in psfs:
        assert (psf >= 0).all()
        torch.testing.assert_close(psf.sum((-2, -1)), torch.ones(4, 1), atol=0.01, rtol=0)


@given(st.integers(0, 2**31))
def test_halved_and_doubled_psfs_have_the_same_sum_and_half_or_twice_the_centroid(seed):
    psf = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 8
    psf[..., [0, -1], :] = psf[..., [0, -1]] = 0  # whose halves would lie beyond the window
    half, twice = halved(psf), doubled(psf)
    assert half.shape == (1, 1, 8, 8)
    assert twice.shape == (1, 1, 32, 32)

    def moments(of: Tensor) -> Tensor:
        place = torch.arange(of.shape[-1], dtype=torch.float64) - of.shape[-1] // 2
        return torch.stack([of.sum(), (of.sum(-1) * place).sum(), (of.sum(-2) * place).sum()])

    factors = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(moments(half), moments(psf) / factors)
    torch.testing.assert_close(moments(twice), moments(psf) * factors)


def test_doubling_is_the_transpose_of_halving_and_full_precision_stays_under_autocast():
    small, large = noise(1, 1, 6, 6) - 0.5, noise(1, 1, 12, 12) - 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, twice = halved(large), doubled(small)
    assert half.dtype == twice.dtype == torch.float32
    torch.testing.assert_close((half * small).sum(), 4 * (large * twice).sum())


@pytest.fixture(scope="module")
def photograph() -> tuple[Tensor, Tensor, Tensor]:
    """A part of a photograph, sharp and blurred by a PSF with light from beyond its borders, and the PSF."""
    picture = skimage.data.camera()[100:260, 150:310] / 255
    psf = np.zeros((2 * HALF + 1, 2 * HALF + 1))
    for place, weight in {(2, 3): 2, (3, 4): 2, (4, 5): 1, (5, 7): 3, (7, 8): 2, (9, 8): 2, (9, 7): 1}.items():
        psf[place] = weight
    psf /= psf.sum()
    blurred = convolve2d(picture, psf, mode="valid")
    sharp = picture[HALF:-HALF, HALF:-HALF]
    return tuple(torch.from_numpy(image)[None, None].float() for image in (sharp, blurred, psf))


def test_a_halved_psf_blurs_the_halved_image(photograph):
    sharp, blurred, psf = photograph
    small, expected = (F.avg_pool2d(image, 2)[0, 0].numpy() for image in (sharp, blurred))
    half = halved(psf[..., :-1, :-1])[0, 0].numpy()
    middle = HALF // 2
    made = convolve2d(small, half)[middle : middle + small.shape[0], middle : middle + small.shape[1]]
    inside = np.s_[HALF:-HALF, HALF:-HALF]
    left = np.square(made - expected)[inside].mean() / np.square(small - expected)[inside].mean()
    assert left < 0.02


def test_the_psf_is_found_from_the_sharp_image_in_spite_of_its_borders(photograph):
    sharp, blurred, psf = photograph
    stage = make().fine[0]
    with torch.no_grad():
        found = stage.solved(sharp, blurred)[0][:, 1:2]
    assert psf_correlation(found, psf) > 0.9
    spectra = (torch.fft.rfft2(image, s=(160, 160)) for image in (sharp, blurred))  # of the pixels themselves
    naive = window(solve_psf(*spectra, torch.tensor([0.0183]), (160, 160)), 2 * HALF)
    assert psf_correlation(naive, psf) < 0.75


def test_the_coarse_psf_is_the_halved_one(photograph):
    sharp, blurred, psf = photograph
    with torch.no_grad():
        found = make().coarse[0].solved(F.avg_pool2d(sharp, 2), F.avg_pool2d(blurred, 2))[0][:, 1:2]
    assert psf_correlation(found, halved(psf[..., :-1, :-1])) > 0.9


def test_the_autocorrelation_is_that_of_the_faded_differences():
    image, stage = noise(1, 2, 40, 50), make(2).fine[0]
    with torch.no_grad():
        lags = stage.solved(image, image)[1][0, 0].numpy()
        faded = stage.differences(image.mean(1, keepdim=True))[0].double().numpy()
    whole = sum(convolve2d(each, each[::-1, ::-1]) for each in faded)
    middle = [side - 1 for side in faded.shape[1:]]
    reach = HALF - 1  # beyond it the periodic grid wraps around
    rows, columns = (slice(place - reach, place + reach + 1) for place in middle)
    expected = whole[rows, columns] / whole[tuple(middle)]
    own = slice(2 * HALF - reach, 2 * HALF + reach + 1)
    assert lags.shape == (4 * HALF, 4 * HALF)
    np.testing.assert_allclose(lags[own, own], expected, atol=1e-4)


def test_differences_fade_out_towards_the_borders():
    ramp = torch.arange(40.0).expand(1, 1, 40, 40)
    down, right = make().fine[0].differences(ramp)[0]
    assert (down == 0).all()
    assert right[20, 20] == 1
    profile = right[20, : HALF + 1]
    assert (profile.diff() > 0).all()
    assert profile[0] < 0.02
    torch.testing.assert_close(right[:, 20], right[:, 20].flip(0))


def test_the_misfit_is_what_the_psf_does_not_explain_inside(photograph):
    sharp, blurred, psf = photograph
    with torch.no_grad():
        made = make().fine[0].reblurred(sharp, psf[..., :-1, :-1])
    inside = slice(HALF, -HALF)
    torch.testing.assert_close(made[..., inside, inside], blurred[..., inside, inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "n"), [((8, 12), 2), ((7, 11), 2), ((9, 1), 2), ((5, 6), 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_reduced_images_are_means_of_pixels_and_channels(size, n, channels):
    images = noise(2, 3, *size)
    shape = (2, channels, *(-(-side // n) for side in size))
    made = reduced(images, shape)
    assert made.shape == shape
    for place in np.ndindex(*shape[2:]):
        part = images[..., n * place[0] : n * place[0] + n, n * place[1] : n * place[1] + n].mean((-2, -1))
        expected = part if channels == 3 else part.mean(1, keepdim=True)
        torch.testing.assert_close(made[(..., *place)], expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 0),
        ("channels", "grey"),
        ("stages", 2),
        ("stages", [0, 1]),
        ("stages", [1, 0]),
        ("stages", [1, 1, 1]),
        ("psf_size", 0),
        ("psf_size", 22),
        ("psf_size", "large"),
        ("psf_width", 0),
        ("psf_hidden", None),
        ("filters", 0),
        ("filters", True),
        ("widths", 16),
        ("widths", [16, 0]),
        ("widths", [16, "wide"]),
        ("blocks", [1, -1]),
        ("blocks", [1, 1, 1]),
        ("coarse_widths", "narrow"),
        ("coarse_widths", None),
        ("coarse_blocks", [0.5, 1]),
    ],
    ids=str,
)
def test_refused_argument_is_named(name, value):
    with pytest.raises(ArgumentError, match=rf"^{name}=") as refused:
        CoarseToFine(**{name: value})
    assert refused.value.name == name
