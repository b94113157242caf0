"""Images of any size through a network in overlapping tiles, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur.errors import check_integer


def restore_in_tiles(
    network: Callable[[Tensor], Tensor], image: Tensor, *, tile: int = 256, overlap: int = 64, batch_size: int = 4
) -> Tensor:
    """What the network makes of an image, (C, H, W) in float32 on the CPU, tile by tile.

    Tiles overlap; the outermost quarter of an overlap, where a tile ends but the image goes on, is thrown away, and
    over the rest neighbours are blended linearly. So there are no seams, and a network that looks at most overlap / 4
    pixels around each pixel makes what it makes of the whole image, to rounding. An image no larger than a tile is
    restored whole.

    Args:
        network: from (B, C, H, W) to the same shape.
        image: (C, H, W), on the device of the network.
        tile: side of a tile, pixels.
        overlap: of neighbouring tiles, pixels; less than half a tile.
        batch_size: tiles that the network gets at once.

    Raises:
        ArgumentError: an argument is out of its range.
    """
    check_integer("tile", tile, low=16)
    check_integer("overlap", overlap, low=0, high=tile // 2 - 1)
    check_integer("batch_size", batch_size, low=1)
    height, width = image.shape[-2:]
    sides = min(tile, height), min(tile, width)
    places = [(top, left) for top in _starts(height, tile, overlap) for left in _starts(width, tile, overlap)]
    if len(places) == 1:
        return network(image.unsqueeze(0))[0].float().cpu()
    total, weight = torch.zeros(image.shape), torch.zeros(height, width)
    for first in range(0, len(places), batch_size):
        chosen = places[first : first + batch_size]
        tiles = torch.stack([image[:, top : top + sides[0], left : left + sides[1]] for top, left in chosen])
        for (top, left), made in zip(chosen, network(tiles).float().cpu(), strict=True):
            rows = _ramp(top, sides[0], height, overlap)
            columns = _ramp(left, sides[1], width, overlap)
            window = rows[:, None] * columns
            total[:, top : top + sides[0], left : left + sides[1]] += made * window
            weight[top : top + sides[0], left : left + sides[1]] += window
    return total / weight


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover the side and overlap by `overlap` at least."""
    if side <= tile:
        return [0]
    count = -(-(side - overlap) // (tile - overlap))
    return [round(number * (side - tile) / (count - 1)) for number in range(count)]


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
