"""Images of any size through a network in overlapping tiles, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur.errors import check_integer

_GRID = 16  # pixels: of the networks here, none shrinks images by more


def restore_in_tiles(
    network: Callable[[Tensor], Tensor], image: Tensor, *, tile: int = 768, overlap: int = 64, batch_size: int = 1
) -> Tensor:
    """What the network makes of an image, (C, H, W) in float32 on the CPU, tile by tile.

    Tiles overlap; the outermost quarter of an overlap, where a tile ends but the image goes on, is thrown away, and
    over the rest neighbours are blended linearly. So there are no seams, and a network that looks at most overlap / 4
    pixels around each pixel, and shrinks images by no more than 16, makes what it makes of the whole image, to
    rounding. An image no larger than a tile is restored whole; others are divided evenly, so that tiles may be smaller
    than they could be, but overlap little more than they should.

    Args:
        network: from (B, C, H, W) to the same shape.
        image: (C, H, W), on the device of the network.
        tile: the longest side of a tile, pixels.
        overlap: of neighbouring tiles, pixels; less than half a tile.
        batch_size: tiles that the network gets at once.

    Raises:
        ArgumentError: an argument is out of its range.
    """
    check_integer("tile", tile, low=4 * _GRID)
    check_integer("overlap", overlap, low=0, high=tile // 2 - 1)
    check_integer("batch_size", batch_size, low=1)
    height, width = image.shape[-2:]
    (rows, tops), (columns, lefts) = (_divided(side, tile, overlap) for side in (height, width))
    places = [(top, left) for top in tops for left in lefts]
    if len(places) == 1:
        return network(image.unsqueeze(0))[0].float().cpu()
    total, weight = torch.zeros(image.shape), torch.zeros(height, width)
    for first in range(0, len(places), batch_size):
        chosen = places[first : first + batch_size]
        tiles = torch.stack([image[:, top : top + rows, left : left + columns] for top, left in chosen])
        for (top, left), made in zip(chosen, network(tiles).float().cpu(), strict=True):
            window = _ramp(top, rows, height, overlap)[:, None] * _ramp(left, columns, width, overlap)
            total[:, top : top + rows, left : left + columns] += made * window
            weight[top : top + rows, left : left + columns] += window
    return total / weight


def _divided(side: int, tile: int, overlap: int) -> tuple[int, list[int]]:
    """The length of tiles, at most `tile`, and where they begin, that cover the side and overlap by `overlap` at least.

    As few as can be, and no longer than they must. All begin at multiples of `_GRID`: a network that shrinks images
    by up to that puts its coarse pixels where it would in the whole image.
    """
    if side <= tile:
        return side, [0]
    for count in itertools.count(2):
        least = -(-(side + (count - 1) * overlap) // count)
        for length in range(least + (side - least) % _GRID, tile + 1, _GRID):  # so that the last begins on the grid
            if (count - 1) * ((length - overlap) // _GRID * _GRID) >= side - length:
                return length, [n * (side - length) // (count - 1) // _GRID * _GRID for n in range(count)]
    raise AssertionError


def _ramp(start: int, side: int, whole: int, overlap: int) -> Tensor:
    """The weight of a tile's rows or columns: 1 inside, down to 0 over the overlap where the image goes on."""
    weight = torch.ones(side)
    if overlap == 0:
        return weight
    margin = overlap // 4
    inner = overlap - 2 * margin
    slope = F.pad((torch.arange(inner) + 1) / (inner + 1), (margin, margin), value=0.0)
    slope[overlap - margin :] = 1.0
    if start > 0:
        weight[:overlap] = torch.minimum(weight[:overlap], slope)
    if start + side < whole:
        weight[-overlap:] = torch.minimum(weight[-overlap:], slope.flip(0))
    return weight
