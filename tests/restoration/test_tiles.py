"""Tiles: no seams, and for a network that looks only so far what it makes of the whole image."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import ArgumentError
from deblur.restoration.tiles import restore_in_tiles


def local(images: torch.Tensor) -> torch.Tensor:
    """Looks 4 pixels around each pixel, not linearly."""
    kernel = torch.rand(images.shape[1], 1, 9, 9, generator=torch.Generator().manual_seed(0))
    return torch.tanh(F.conv2d(images, kernel, padding=4, groups=images.shape[1]) / 40)


@given(st.integers(1, 140), st.integers(1, 140), st.integers(42, 64), st.integers(1, 5), st.sampled_from([1, 3]))
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

    line = restore_in_tiles(disagreeing, torch.zeros(1, 16, 100), tile=64, overlap=24, batch_size=1)[0, 0]
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
    torch.testing.assert_close(restore_in_tiles(look, image, tile=48, overlap=8, batch_size=3), image)
    assert max(shape[0] for shape in seen) == 3
    assert {shape[1:] for shape in seen} == {(3, 48, 48)}


@given(st.integers(65, 400), st.integers(0, 31))
def test_tiles_are_few_and_overlap_little_more_than_asked(side, overlap):
    seen = []
    restore_in_tiles(lambda tiles: seen.append(tiles) or tiles, torch.zeros(1, 16, side), tile=64, overlap=overlap)
    fewest = math.ceil((side - overlap) / (64 - overlap))
    assert sum(map(len, seen)) == fewest
    assert sum(tiles.shape[-1] for tiles in seen) < side + (fewest - 1) * overlap + fewest * 16


@pytest.mark.parametrize(
    ("key", "value"), [("tile", 8), ("overlap", 384), ("overlap", -1), ("batch_size", 0), ("tile", "large")]
)
def test_a_refused_argument_is_named(key, value):
    with pytest.raises(ArgumentError, match=rf"^{key}="):
        restore_in_tiles(local, torch.zeros(1, 8, 8), **{key: value})
