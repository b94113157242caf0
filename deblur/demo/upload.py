"""Pictures that others send to the page: opened within bounds."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from deblur.data.picture_files import FORMATS, read_photograph, sides_of
from deblur.errors import UsageError

MEGABYTE = 2**20
_MOST_PIXELS = 50_000_000  # decoded, 150 MB
_SMALLEST_SIDE = 16


def read_upload(file: Path, most_mb: float, longest_side: int) -> Tensor:
    """The picture in a file, upright, (1 or 3, H, W) in [0, 1], scaled down to the longest side if it is larger.

    Args:
        file: JPEG, PNG, WebP, TIFF or BMP.
        most_mb: of the file, megabytes.
        longest_side: pixels.

    Raises:
        UsageError: it is too large, too small, no picture, or damaged; nothing large was decoded.
    """
    if file.stat().st_size > most_mb * MEGABYTE:
        raise UsageError(f"{file.name}: is larger than {most_mb:g} MB")
    try:
        width, height = sides_of(file)
        if width * height > _MOST_PIXELS:
            raise UsageError(
                f"{file.name}: has {width}x{height} pixels; at most {_MOST_PIXELS // 10**6} million are opened"
            )
        if min(width, height) < _SMALLEST_SIDE:
            raise UsageError(f"{file.name}: has {width}x{height} pixels; at least {_SMALLEST_SIDE} a side are needed")
        pixels = read_photograph(file, 3)
    except UsageError as error:
        if str(file) not in str(error):
            raise
        raise UsageError(f"{file.name}: cannot be read as a picture ({', '.join(FORMATS)})") from error
    if (pixels == pixels[:1]).all():
        pixels = pixels[:1]
    image = pixels.float() / 255
    share = longest_side / max(image.shape[1:])
    if share >= 1:
        return image
    sides = [max(round(side * share), 1) for side in image.shape[1:]]
    if min(sides) < _SMALLEST_SIDE:
        raise UsageError(f"{file.name}: is too long and narrow: {width}x{height} pixels")
    return F.interpolate(image[None], sides, mode="bilinear", antialias=True)[0].clamp(0, 1)
