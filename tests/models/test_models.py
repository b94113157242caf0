"""Networks: the shapes they keep, the sizes they take, and the residual they add."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deblur.models
from deblur.errors import ArgumentError
from deblur.models import CNN, MLP, NAFNet, UNet

EVERY = [getattr(deblur.models, name) for name in deblur.models.__all__]
SMALL = {
    "cnn": lambda channels=1: CNN(channels, width=8, depth=3),
    "cnn_full_resolution": lambda channels=1: CNN(channels, width=8, depth=3, shuffle=1),
    "cnn_shuffle_3": lambda channels=1: CNN(channels, width=8, depth=2, shuffle=3),
    "unet": lambda channels=1: UNet(channels, widths=[8, 12, 16], blocks=[1, 0, 2]),
    "unet_one_level": lambda channels=1: UNet(channels, widths=[8], blocks=[1]),
}
MULTIPLE = {"cnn": 2, "cnn_full_resolution": 1, "cnn_shuffle_3": 3, "unet": 4, "unet_one_level": 1}


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def seeded(name: str, channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return SMALL[name](channels).eval()


def last_layer(network: nn.Module) -> nn.Module:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]


@pytest.mark.parametrize("model", EVERY)
def test_defaults_keep_the_shape_of_digits_and_learn_in_every_parameter(model):
    network = model()
    for name, parameter in network.named_parameters():
        if name.endswith(("beta", "gamma")):  # NAFNet's blocks come in as these leave 0
            nn.init.ones_(parameter)
    restored = network(noise(3, 1, 28, 28))
    assert restored.shape == (3, 1, 28, 28)
    restored.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


@pytest.mark.parametrize(
    ("model", "low", "high"), [(MLP, 1e6, 3e6), (CNN, 1e5, 5e5), (UNet, 1e5, 5e5), (NAFNet, 3e5, 6e5)]
)
def test_default_sizes_are_in_their_range(model, low, high):
    assert low <= sum(parameter.numel() for parameter in model().parameters()) <= high


@pytest.mark.parametrize("model", EVERY)
def test_network_with_zero_last_layers_is_the_identity(model):
    network = model()
    # Those that find PSFs add a residual more than once: of their first network and of every stage.
    of_images = [
        (name, module) for name, module in network.named_modules() if not {"cleaner", "psf"} & {*name.split(".")}
    ]
    last = [module for name, module in of_images if name.endswith("head")]
    for layer in [*last, last_layer(network)]:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    blurred = noise(2, 1, 28, 28)
    assert torch.equal(network(blurred), blurred)


@pytest.mark.parametrize("model", EVERY)
def test_input_is_left_as_it_was(model):
    blurred = noise(2, 1, 28, 28)
    model()(blurred)
    assert torch.equal(blurred, noise(2, 1, 28, 28))


@pytest.mark.parametrize("model", EVERY)
def test_images_of_a_batch_do_not_see_each_other(model):
    network = model().eval()
    blurred = noise(4, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(network(blurred)[2:3], network(blurred[2:3]), atol=1e-5, rtol=1e-5)


@given(st.sampled_from(sorted(SMALL)), st.sampled_from([1, 3]), st.tuples(st.integers(1, 37), st.integers(1, 37)))
@settings(deadline=None, max_examples=60)
def test_convolutional_networks_keep_any_size_and_number_of_channels(name, channels, size):
    blurred = noise(2, channels, *size)
    with torch.no_grad():
        restored = seeded(name, channels)(blurred)
    assert restored.shape == blurred.shape
    assert torch.isfinite(restored).all()
    assert not torch.equal(restored, blurred)


@pytest.mark.parametrize("name", SMALL)
def test_odd_sizes_are_padded_with_zeros_below_and_right_and_cropped_back(name):
    network, multiple = seeded(name), MULTIPLE[name]
    blurred = noise(1, 1, 23, 29)
    padded = F.pad(blurred, (0, -29 % multiple, 0, -23 % multiple))
    with torch.no_grad():
        torch.testing.assert_close(network(blurred), network(padded)[..., :23, :29], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_far_from_the_border_a_moved_image_is_restored_to_a_moved_image(name):
    network, shift = seeded(name), 4 * MULTIPLE[name]
    image = noise(1, 1, 96, 96)
    with torch.no_grad():
        restored, moved = network(image), network(image.roll((shift, shift), dims=(-2, -1)))
    inside = slice(40, 64)
    expected = restored.roll((shift, shift), dims=(-2, -1))[..., inside, inside]
    torch.testing.assert_close(moved[..., inside, inside], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("depth", "shuffle"), [(2, 1), (4, 1), (3, 2), (2, 3)])
def test_cnn_sees_depth_times_shuffle_pixels_in_each_direction(depth, shuffle):
    torch.manual_seed(0)
    network = CNN(width=16, depth=depth, shuffle=shuffle).double()
    image = noise(1, 1, 36, 36).double().requires_grad_()
    network(image)[0, 0, 18, 18].backward()  # the first pixel of its block
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    columns = image.grad[0, 0].abs().sum(dim=0).nonzero().flatten()
    for seen in (rows, columns):
        assert seen.min() == 18 - depth * shuffle
        assert seen.max() == 18 + depth * shuffle + shuffle - 1


def test_unet_sees_farther_with_every_level():
    reach = []
    for widths in ([8], [8, 8], [8, 8, 8]):
        torch.manual_seed(0)
        network = UNet(widths=widths, blocks=[1] * len(widths)).double()
        image = noise(1, 1, 96, 96).double().requires_grad_()
        network(image)[0, 0, 48, 48].backward()
        rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
        reach.append(int(48 - rows.min()))
    assert reach[0] == 4  # stem, two of one block, head
    assert reach[0] < reach[1] < reach[2]


@pytest.mark.parametrize("shape", [(1, 1, 27, 28), (1, 1, 32, 32), (1, 3, 28, 28)])
def test_mlp_refuses_another_size_and_says_which_it_was_built_for(shape):
    size = "x".join(map(str, shape[1:]))
    with pytest.raises(ValueError, match=rf"built for images of 1x28x28 .*not {size}"):
        MLP()(torch.zeros(shape))


def test_mlp_serves_the_size_and_channels_it_was_built_for():
    blurred = noise(2, 3, 8, 8)
    assert MLP(image_size=8, channels=3, width=16, depth=1)(blurred).shape == blurred.shape


def test_mlp_lets_every_pixel_see_every_other():
    image = noise(1, 1, 6, 6).requires_grad_()
    MLP(image_size=6, width=64)(image)[0, 0, 0, 0].backward()
    assert (image.grad != 0).all()


@pytest.mark.parametrize(("model", "depth", "layers"), [(MLP, 3, 4), (CNN, 5, 5)])
def test_depth_counts_layers(model, depth, layers):
    network = model(width=8, depth=depth)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == layers


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        (MLP, "image_size", 0),
        (MLP, "channels", 0),
        (MLP, "width", 1.5),
        (MLP, "depth", 0),
        (CNN, "channels", "grey"),
        (CNN, "width", 0),
        (CNN, "width", True),
        (CNN, "depth", 1),
        (CNN, "shuffle", 0),
        (UNet, "channels", None),
        (UNet, "widths", []),
        (UNet, "widths", 16),
        (UNet, "widths", [16, 0, 64]),
        (UNet, "widths", [16, "32", 64]),
        (UNet, "widths", "large"),
        (UNet, "blocks", [1, -1, 2]),
        (UNet, "blocks", [1, 1]),
        (UNet, "blocks", None),
        (NAFNet, "channels", 0),
        (NAFNet, "width", "wide"),
        (NAFNet, "encoder_blocks", 2),
        (NAFNet, "encoder_blocks", []),
        (NAFNet, "encoder_blocks", [1, 1, -1]),
        (NAFNet, "middle_blocks", [1]),
        (NAFNet, "decoder_blocks", [1, 1]),
        (NAFNet, "decoder_blocks", None),
        (NAFNet, "attention_window", 0),
        (NAFNet, "attention_window", 1.5),
    ],
)
def test_refused_argument_is_named(model, name, value):
    with pytest.raises(ArgumentError, match=rf"^{name}=") as refused:
        model(**{name: value})
    assert refused.value.name == name
