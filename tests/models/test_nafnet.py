"""NAFNet: its pieces against numpy, any size, and attention that sees as much of a large image as of a crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d
from torch import Tensor, nn

from deblur.models import NAFNet
from deblur.models.nafnet import Block, LayerNorm2d, local_mean
from deblur.restoration.tiles import restore_in_tiles


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def awake(network: nn.Module) -> nn.Module:
    """The network with blocks that count, and with weights of layer norms that are not all the same."""
    source = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")) or parameter.ndim == 1:
            nn.init.normal_(parameter, 0.5, 0.2, generator=source)
    return network.eval()


def make(channels: int = 1, **changes) -> NAFNet:
    torch.manual_seed(0)
    small = {"width": 4, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}
    return awake(NAFNet(channels, **small | changes))


def normalised(x: np.ndarray, norm: LayerNorm2d) -> np.ndarray:
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6)
    return x * norm.weight.numpy()[:, None, None] + norm.bias.numpy()[:, None, None]


def mixed(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    return np.einsum("oi,ihw->ohw", layer.weight.numpy()[..., 0, 0], x) + layer.bias.numpy()[:, None, None]


def gated(x: np.ndarray) -> np.ndarray:
    return x[: len(x) // 2] * x[len(x) // 2 :]


@torch.no_grad()
def test_a_block_is_what_the_paper_says():
    torch.manual_seed(0)
    block = awake(Block(6, None).double())
    x = noise(1, 6, 9, 7).double()
    norm, widen, spread, _, attention, project = block.mix
    y = mixed(normalised(x[0].numpy(), norm), widen)
    y = np.stack([correlate2d(c, k, "same") for c, k in zip(y, spread.weight.numpy()[:, 0], strict=True)])
    y = gated(y + spread.bias.numpy()[:, None, None])
    y = y * mixed(y.mean((1, 2), keepdims=True), attention.weigh)
    first = x[0].numpy() + block.beta.numpy() * mixed(y, project)
    norm, widen, _, project = block.feed
    expected = first + block.gamma.numpy() * mixed(gated(mixed(normalised(first, norm), widen)), project)
    np.testing.assert_allclose(block(x)[0].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("width", [4, 6])
def test_it_has_the_parameters_that_its_sizes_say(width):
    network = NAFNet(3, width=width, encoder_blocks=[1, 2], middle_blocks=3, decoder_blocks=[2, 1])
    count = 2 * 27 * width + width + 3  # both ends
    for level, blocks in enumerate((1 + 2, 2 + 1, 3)):
        wide = width * 2**level
        count += blocks * (7 * wide**2 + 33 * wide)
        count += 0 if level == 2 else (8 * wide**2 + 2 * wide) + 8 * wide**2  # down and up
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_a_new_blocks_output_is_its_input():
    block, x = Block(4, None), noise(2, 4, 8, 8)
    assert torch.equal(block(x), x)


@given(st.sampled_from([1, 3]), st.integers(1, 37), st.integers(1, 37), st.sampled_from([None, 1, 10]))
@settings(deadline=None, max_examples=30)
def test_any_size_and_number_of_channels_is_kept(channels, height, width, window):
    blurred = noise(2, channels, height, width)
    with torch.no_grad():
        restored = make(channels, attention_window=window)(blurred)
    assert restored.shape == blurred.shape
    assert torch.isfinite(restored).all()
    assert not torch.equal(restored, blurred)


def test_odd_sizes_are_padded_with_zeros_below_and_right_and_cropped_back():
    network, blurred = make(), noise(1, 1, 23, 29)
    with torch.no_grad():
        whole = network(F.pad(blurred, (0, 3, 0, 1)))
        torch.testing.assert_close(network(blurred), whole[..., :23, :29], atol=1e-5, rtol=1e-5)


def test_channels_innermost_in_memory_change_nothing():
    network, blurred = make(3, attention_window=16), noise(2, 3, 40, 32)
    with torch.no_grad():
        expected = network(blurred)
        network.to(memory_format=torch.channels_last)
        made = network(blurred.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_mixed_precision_changes_little():
    network, blurred = make(attention_window=16), noise(2, 1, 40, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        mixed_precision = network(blurred)
    with torch.no_grad():
        torch.testing.assert_close(mixed_precision.float(), network(blurred), atol=0.05, rtol=0.05)


@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 16))
@settings(deadline=None, max_examples=30)
def test_local_means_are_those_of_a_square_around_each_pixel_that_stays_inside(height, width, window):
    x = noise(2, 3, height, width).double()
    made = local_mean(x, window)
    for row in range(height):
        for column in range(width):
            top = min(max(row - window // 2, 0), max(height - window, 0))
            left = min(max(column - window // 2, 0), max(width - window, 0))
            expected = x[:, :, top : top + window, left : left + window].mean((2, 3))
            torch.testing.assert_close(made[:, :, row, column], expected)


def test_images_as_large_as_a_training_crop_see_all_of_it():
    local, whole = make(attention_window=30), make()
    for size in ((30, 30), (32, 32), (17, 31)):  # 30 is padded to 32
        blurred = noise(2, 1, *size)
        with torch.no_grad():
            torch.testing.assert_close(local(blurred), whole(blurred), atol=1e-5, rtol=1e-5)
    larger = noise(2, 1, 36, 36)
    with torch.no_grad():
        assert (local(larger) - whole(larger)).abs().max() > 1e-3


def test_training_sees_the_whole_crop_whatever_the_window():
    local, whole, blurred = make(attention_window=8).train(), make().train(), noise(2, 1, 24, 24)
    torch.testing.assert_close(local(blurred), whole(blurred))


def test_a_large_periodic_image_is_restored_like_its_period():
    period = noise(1, 1, 16, 16)
    network = make(attention_window=16)
    with torch.no_grad():
        large, other = (network(period.repeat(1, 1, n, n))[..., 32:64, 32:64] for n in (6, 8))
        torch.testing.assert_close(large, other, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(large[..., :16, :16], large[..., 16:, 16:], atol=1e-5, rtol=1e-5)


def test_what_is_far_away_counts_only_where_the_means_are_of_the_whole_image():
    image, other = noise(1, 1, 32, 192), noise(1, 1, 32, 192)
    other[..., 96:] = 1.0
    for window, same in ((16, True), (None, False)):
        network = make(attention_window=window)
        with torch.no_grad():
            difference = (network(image) - network(other))[..., :32].abs().max()
        assert (difference < 1e-6) == same


def test_tiles_agree_with_the_whole_image_closely_where_attention_is_local():
    network, image = make(attention_window=32), noise(1, 160, 160)
    image[:, :, 80:] *= 0.3  # its halves have other means
    with torch.no_grad():
        whole = network(image[None])[0]
        local = restore_in_tiles(network, image, tile=96, overlap=40) - whole
        network = make()
        everywhere = restore_in_tiles(network, image, tile=96, overlap=40) - network(image[None])[0]
    assert local.abs().max() < 0.2 * everywhere.abs().max()


def test_gradients_reach_everything_that_is_awake():
    network = make().train()
    network(noise(2, 1, 24, 24)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
