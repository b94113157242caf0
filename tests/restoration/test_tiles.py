"""Tiles: no seams, and for a network that looks only so far what it makes of the whole image."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArgumentError
from deblur.models import CNN, UNet
from deblur.restoration.tiles import restore_in_tiles


def local(images: torch.Tensor) -> torch.Tensor:
    """Looks 4 pixels around each pixel, not linearly."""
    kernel = torch.rand(images.shape[1], 1, 9, 9, generator=torch.Generator().manual_seed(0))
    return torch.tanh(F.conv2d(images, kernel, padding=4, groups=images.shape[1]) / 40)


@given(st.integers(1, 240), st.integers(1, 240), st.integers(64, 96), st.integers(1, 5), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=60)
def test_a_local_network_makes_of_tiles_what_it_makes_of_the_whole(height, width, tile, batch_size, channels):
    source = torch.Generator().manual_seed(height * 1000 + width)
    image = torch.rand(channels, height, width, generator=source)
    overlap = 20  # a quarter is thrown away at each end: one pixel more than the network looks around, for rounding
    made = restore_in_tiles(local, image, tile=tile, overlap=overlap, batch_size=batch_size)
    torch.testing.assert_close(made, local(image[None])[0], atol=1e-5, rtol=0)


def test_the_blend_is_gradual_where_tiles_disagree():
    calls = iter(range(100))

    def disagreeing(tiles: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.full_like(tile, float(next(calls))) for tile in tiles])

    line = restore_in_tiles(disagreeing, torch.zeros(1, 16, 200), tile=128, overlap=24, batch_size=1)[0, 0]
    assert line[0] == 0
    assert line[-1] == 1
    assert (line.diff() >= 0).all()
    assert line.diff().max() < 0.1


def test_no_batch_is_larger_than_asked_nor_any_tile():
    seen = []

    def look(tiles: torch.Tensor) -> torch.Tensor:
        seen.append(tiles.shape)
        return tiles

    image = torch.rand(3, 100, 150)
    torch.testing.assert_close(restore_in_tiles(look, image, tile=64, overlap=8, batch_size=3), image)
    assert max(shape[0] for shape in seen) == 3
    ((channels, height, width),) = {shape[1:] for shape in seen}
    assert channels == 3
    assert max(height, width) <= 64


@given(st.integers(257, 4000), st.integers(0, 127))
@settings(deadline=None)
def test_tiles_are_few_and_overlap_little_more_than_asked(side, overlap):
    seen = []
    restore_in_tiles(lambda tiles: seen.append(tiles) or tiles, torch.zeros(1, 1, side), tile=256, overlap=overlap)
    most = math.ceil((side - overlap) / (256 - overlap - 30))  # 15 pixels for where they begin, 15 for where they end
    assert len(seen) <= most
    assert sum(tiles.shape[-1] for tiles in seen) < side + (len(seen) - 1) * overlap + len(seen) * 47


@pytest.mark.parametrize("size", [(250, 303), (304, 97)])
@pytest.mark.parametrize(
    "network", [CNN(width=8, depth=3), UNet(widths=[4, 8, 8], blocks=[0, 0, 1])], ids=["cnn", "unet"]
)
def test_networks_that_shrink_images_see_tiles_as_they_see_the_whole(network, size):
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):  # so that what comes out depends on all that goes in
            parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(number))
        image = torch.rand(1, *size, generator=torch.Generator().manual_seed(0))
        whole = network(image[None])[0]
        made = restore_in_tiles(network, image, tile=150, overlap=64)
    torch.testing.assert_close(made, whole, atol=1e-4 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("key", "value"), [("tile", 8), ("overlap", 384), ("overlap", -1), ("batch_size", 0), ("tile", "large")]
)
def test_a_refused_argument_is_named(key, value):
    with pytest.raises(ArgumentError, match=rf"^{key}="):
        restore_in_tiles(local, torch.zeros(1, 8, 8), **{key: value})
