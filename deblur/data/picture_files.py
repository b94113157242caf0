"""Pictures from files: which are read, how large they are, and their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from deblur.errors import UsageError, shown

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")  # no others by other names: Pillow starts programs for some
_TURNED = {  # by the tag of orientation: what makes the picture upright
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: np.rot90(values),
}


def read_photograph(file: Path, channels: int) -> Tensor:
    """The picture in a file, upright, uint8 (channels, H, W): grey by luminance, without transparency, 16 bits as 8.

    Raises:
        UsageError: it is no picture, or damaged.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            check_readable(image, file)
            white = white_of(image)
            if in_planes_of_16_bits(image):
                deep = read_deep(file, "TIFF")
                if deep.dtype != np.uint16 or deep.ndim != 3:
                    raise ValueError("its planes are not what its tags say")
                values = (deep >> 8).astype(np.uint8)
                picture = Image.fromarray(values[..., :3] if values.shape[2] > 2 else values[..., 0])
            else:
                picture = ImageOps.exif_transpose(image)
            if picture.mode.startswith("I"):  # 12 or 16 bits of grey
                values = np.asarray(picture, dtype=np.float64) * (255 / white)
                picture = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
            pixels = np.array(picture.convert("L" if channels == 1 else "RGB")).reshape(*picture.size[::-1], channels)
    except UsageError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise UsageError(f"{file}: cannot be read as a picture ({shown(error)})") from error
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))  # torch would wake a team of threads


def check_readable(image: Image.Image, file: Path) -> None:
    """Refuses a picture of floating-point numbers, of integers with a sign or of 32 bits: nothing says what is white.

    And one of CMYK in planes of 16 bits, which no reader here makes colours of.

    Raises:
        UsageError: it is one.
    """
    if in_planes_of_16_bits(image) and image.mode == "CMYK":
        raise UsageError(f"{file}: has CMYK in planes of 16 bits; must be RGB or grey, or 8 bits")
    if image.mode.startswith("F"):
        raise UsageError(f"{file}: has floating-point pixels; must have 8 or 16 bits a channel")
    if image.mode == "I" and image.format == "TIFF":
        raise UsageError(f"{file}: has pixels of 32 bits or with a sign; must have 8 or 16 bits a channel")


def white_of(image: Image.Image) -> int:
    """The largest number that a pixel of 12 or 16 bits can have, of a file that is open but not loaded."""
    return 4095 if any("I;12" in str(part.args) for part in image.tile) else 65535


def in_planes_of_16_bits(image: Image.Image) -> bool:
    """Whether it is an uncompressed TIFF with a plane of 16 bits for each channel, which Pillow takes for 8 bits.

    Args:
        image: open but not loaded. (Pillow reads compressed planes by another library, and rightly.)
    """
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(ExifTags.Base.BitsPerSample, ())
    in_planes = tags.get(ExifTags.Base.PlanarConfiguration) == 2 and len(bits) > 1 and 16 in bits
    return in_planes and any(part.codec_name == "raw" for part in image.tile)


def read_deep(file: Path, kind: str) -> np.ndarray:
    """The pixels, uint16 (H, W, C), those of a TIFF upright, as Pillow gives them.

    Args:
        file: of a size that was looked at before.
        kind: `PNG` or `TIFF`.

    Raises:
        Exception: many kinds, for damaged files and compressions that cannot be read.
    """
    if kind == "PNG":
        from torchvision.io import ImageReadMode, decode_image

        content = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)
        return decode_image(content, mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        values = page.asarray()
        values = np.moveaxis(values, 0, -1) if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else values
        turn = page.tags.valueof(ExifTags.Base.Orientation, default=1)
    return upright(values, turn)


def upright(values: np.ndarray, turn: Any) -> np.ndarray:
    """Pixels, (H, W, C), turned as a tag of orientation says; as they are if it says nothing that is known."""
    return np.ascontiguousarray(_TURNED[turn](values)) if turn in _TURNED else values


def sides_of(file: Path) -> tuple[int, int]:
    """Width and height of the picture in a file, from its header.

    Raises:
        UsageError: it is no picture.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.size
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise UsageError(f"{file}: cannot be read as a picture ({shown(error)})") from error
