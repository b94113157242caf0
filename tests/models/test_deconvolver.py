"""The blind deconvolver: any size, finite everywhere, Fourier steps that undo a blur given the truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d
from torch import Tensor, nn

from deblur.errors import ArgumentError
from deblur.models import BlindDeconvolver

HALF = 6  # of the window for the PSF, pixels


def make(channels: int = 1, **changes) -> BlindDeconvolver:
    torch.manual_seed(0)
    small = {"widths": [8, 12], "blocks": [1, 1], "first_widths": [8, 12], "first_blocks": [0, 1], "psf_size": 2 * HALF}
    small |= {"psf_width": 4, "psf_hidden": 16, "filters": 2}
    return BlindDeconvolver(channels, **small | changes).eval()


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (37, 50)), (1, (9, 7)), (2, (5, 41)), (1, (1, 1))])
@pytest.mark.parametrize("stages", [0, 1, 2])
def test_any_size_and_number_of_channels_is_kept(channels, size, stages):
    blurred = noise(2, channels, *size)
    with torch.no_grad():
        restored = make(channels, stages=stages)(blurred)
    assert restored.shape == blurred.shape
    assert restored.isfinite().all()
    assert not torch.equal(restored, blurred)


def test_odd_sizes_are_padded_with_zeros_below_and_right_and_cropped_back():
    network, blurred = make(), noise(1, 1, 23, 29)
    with torch.no_grad():
        whole = network(F.pad(blurred, (0, 3, 0, 1)))
        torch.testing.assert_close(network(blurred), whole[..., :23, :29], atol=1e-5, rtol=1e-5)


def test_a_later_stage_hears_of_the_psf_before():
    network, blurred = make(stages=2), noise(2, 1, 28, 28)
    seen = []
    network.stages[1].cleaner.register_forward_hook(lambda _, given, made: seen.append(given[0]))
    with torch.no_grad():
        psfs = network.estimates(blurred).psfs
    assert torch.equal(seen[0][:, -1:], psfs[0])


def test_without_stages_it_is_the_first_unet_alone():
    network, blurred = make(stages=0), noise(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(network(blurred), blurred + network.first(blurred))


def test_with_zero_last_layers_it_is_the_identity():
    network, blurred = make(stages=2), noise(2, 1, 28, 28)
    for unet in (network.first, *(stage.restore for stage in network.stages)):
        nn.init.zeros_(unet.head.weight)
        nn.init.zeros_(unet.head.bias)
    with torch.no_grad():
        assert torch.equal(network(blurred), blurred)


def test_images_of_a_batch_do_not_see_each_other():
    network, blurred = make(), noise(4, 1, 20, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(blurred)[2:3], network(blurred[2:3]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blurred", [torch.zeros(2, 1, 28, 28), torch.ones(2, 1, 28, 28), noise(2, 1, 28, 28)])
def test_gradients_are_finite(blurred):
    network, blurred = make(stages=2), blurred.clone().requires_grad_()
    network(blurred).square().mean().backward()
    assert blurred.grad.isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_mixed_precision_changes_little():
    network, blurred = make(), noise(2, 1, 28, 28)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(blurred)
    with torch.no_grad():
        torch.testing.assert_close(mixed.float(), network(blurred), atol=0.05, rtol=0)


def test_low_precision_throughout_changes_little():
    network, blurred = make(), noise(2, 1, 28, 28)
    with torch.no_grad():
        expected = network(blurred)
        low = network.to(torch.bfloat16)(blurred.to(torch.bfloat16))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, atol=0.1, rtol=0)


class Seen(NamedTuple):
    """What a stage had inside: rough and cleaned PSF, and what its U-Net was given."""

    rough: Tensor
    psf: Tensor
    given: Tensor


def look_inside(network: BlindDeconvolver, sharp: Tensor, blurred: Tensor, psf: Tensor | None = None) -> Seen:
    """Run the first stage on the sharp and the blurred image, if given with the true PSF in place of the cleaned."""
    stage, seen = network.stages[0], {}

    def at_the_cleaner(_: nn.Module, given: tuple[Tensor], made: Tensor) -> Tensor:
        seen["rough"], seen["psf"] = given[0], made if psf is None else psf
        return seen["psf"]

    hooks = [
        stage.cleaner.register_forward_hook(at_the_cleaner),
        stage.restore.register_forward_pre_hook(lambda _, given: seen.update(given=given[0])),
    ]
    with torch.no_grad():
        stage(sharp, blurred, None)
    for hook in hooks:
        hook.remove()
    return Seen(**seen)


def true_psf(random: np.random.Generator) -> np.ndarray:
    """An asymmetric PSF that fills the window, with no zeros in the Fourier domain."""
    psf = random.random((2 * HALF, 2 * HALF)) ** 4
    psf *= 0.4 / psf.sum()
    psf[HALF - 2, HALF + 3] += 0.6
    return psf


def blur(sharp: np.ndarray, psf: np.ndarray) -> np.ndarray:
    """The image (C, H, W), black outside its frame, convolved with the PSF, whose origin is the pixel (HALF, HALF)."""
    height, width = sharp.shape[-2:]
    whole = np.stack([convolve2d(channel, psf) for channel in sharp])
    return whole[:, HALF : HALF + height, HALF : HALF + width]


def no_regularisation(network: BlindDeconvolver) -> None:
    for stage in network.stages:
        nn.init.constant_(stage.log_ridge, -30.0)
        nn.init.constant_(stage.log_noise, -30.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_rough_psf_is_the_true_one_if_the_image_is(channels):
    random = np.random.default_rng(0)
    sharp, psf = np.zeros((channels, 32, 40)), true_psf(random)
    sharp[:, 8:22, 8:30] = random.random((channels, 14, 22))  # nothing moves out of the frame
    network = make(channels)
    no_regularisation(network)
    pair = [torch.tensor(images, dtype=torch.float32)[None] for images in (sharp, blur(sharp, psf))]
    rough = look_inside(network, *pair).rough
    for estimate in rough[0]:
        np.testing.assert_allclose(estimate, psf, atol=2e-3)


def test_more_ridge_makes_the_rough_psf_smaller_and_no_other():
    random = np.random.default_rng(0)
    sharp, psf = np.zeros((1, 32, 32)), true_psf(random)
    sharp[0, 8:22, 8:22] = random.random((14, 14))
    pair = [torch.tensor(images, dtype=torch.float32)[None] for images in (sharp, blur(sharp, psf))]
    weak, strong = look_inside(make(), *pair).rough[0]
    assert weak.sum() > strong.sum() > 0
    for estimate in (weak, strong):
        assert np.corrcoef(estimate.flatten(), psf.flatten())[0, 1] > 0.7
        assert divmod(int(estimate.argmax()), 2 * HALF) == (HALF - 2, HALF + 3)


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (36, 48)), (1, (8, 4))])
def test_wiener_images_with_the_true_psf_are_sharp_up_to_the_frame(channels, size):
    random = np.random.default_rng(1)
    sharp, psf = random.random((channels, *size)), true_psf(random)
    pair = [torch.tensor(images, dtype=torch.float32)[None] for images in (sharp, blur(sharp, psf))]
    network = make(channels)
    no_regularisation(network)
    given = look_inside(network, *pair, torch.tensor(psf, dtype=torch.float32)[None, None]).given[0].numpy()
    x, y, first, second, misfit = np.split(given, 5)
    np.testing.assert_array_equal(x, pair[0][0])
    np.testing.assert_array_equal(y, pair[1][0])
    np.testing.assert_allclose(misfit, 0, atol=1e-5)
    np.testing.assert_allclose(first, sharp, atol=1e-4)
    np.testing.assert_allclose(second, sharp, atol=1e-4)


def test_the_misfit_is_what_the_psf_does_not_explain():
    random = np.random.default_rng(2)
    sharp, other, psf = random.random((1, 28, 28)), random.random((1, 28, 28)), true_psf(random)
    pair = [torch.tensor(images, dtype=torch.float32)[None] for images in (sharp, other)]
    given = look_inside(make(), *pair, torch.tensor(psf, dtype=torch.float32)[None, None]).given[0]
    np.testing.assert_allclose(given[-1:], other - blur(sharp, psf), atol=1e-5)


def test_the_cleaned_psf_is_non_negative_with_sum_one():
    blurred = noise(4, 1, 28, 28)
    psf = look_inside(make(), blurred, blurred).psf
    assert psf.shape == (4, 1, 2 * HALF, 2 * HALF)
    assert (psf >= 0).all()
    torch.testing.assert_close(psf.sum((-2, -1)), torch.ones(4, 1), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 0),
        ("channels", "grey"),
        ("stages", -1),
        ("stages", 1.5),
        ("psf_size", 0),
        ("psf_size", 22),
        ("psf_size", "large"),
        ("psf_width", 0),
        ("psf_hidden", None),
        ("filters", 0),
        ("filters", True),
        ("widths", 16),
        ("widths", [16]),
        ("widths", [16, 0]),
        ("widths", [16, "wide"]),
        ("blocks", [1, -1]),
        ("blocks", [1, 1, 1]),
        ("first_widths", "narrow"),
        ("first_widths", None),
        ("first_blocks", [0.5, 1]),
    ],
    ids=str,
)
def test_refused_argument_is_named(name, value):
    with pytest.raises(ArgumentError, match=rf"^{name}=") as refused:
        BlindDeconvolver(**{name: value})
    assert refused.value.name == name


@pytest.mark.parametrize("stages", [0, 1, 2])
def test_estimates_are_of_each_stage_and_end_with_the_restored_image(stages):
    network, blurred = make(3, stages=stages), noise(2, 3, 23, 29)
    with torch.no_grad():
        estimates = network.estimates(blurred)
        assert torch.equal(estimates.images[-1], network(blurred))
    assert [image.shape for image in estimates.images] == [blurred.shape] * (stages + 1)
    assert [psf.shape for psf in estimates.psfs] == [(2, 1, 2 * HALF, 2 * HALF)] * stages
