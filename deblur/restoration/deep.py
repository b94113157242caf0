"""PNG and TIFF with 16 bits of colour, of which Pillow reads and writes 8."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

SUFFIXES = (".png", ".tif", ".tiff")  # of files that can hold them

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by channels
TAGS = (  # of TIFF that are about the picture, not about how it is stored or turned
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
PARTS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)  # of EXIF, with tags of their own: how and where it was taken


def exif_of(about: dict[str, Any]) -> Image.Exif:
    """The EXIF that is kept for saving; empty if there is none, or it is damaged."""
    exif = about.get("exif", b"")
    if isinstance(exif, bytes):
        exif, content = Image.Exif(), exif
        with suppress(Exception):  # Pillow raises many kinds
            exif.load(content)
    return exif


def text_as_stored(value: Any) -> Any:
    """The bytes of a text that is not ASCII as Pillow decoded it, for writing; other values as they are."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def write_deep(file: Path, values: np.ndarray, about: dict[str, Any]) -> None:
    """Write pixels, uint16 (H, W, C), their last channel transparency if there are 2 or 4.

    Args:
        file: .png, .tif or .tiff.
        values: the pixels.
        about: `icc_profile` and `exif`, where there are such; of EXIF, a TIFF gets `TAGS` alone: tifffile writes no
            `PARTS`.
    """
    if file.suffix.lower() == ".png":
        file.write_bytes(_png(values, about))
        return
    import tifffile

    exif = exif_of(about)
    texts = {tag: text_as_stored(exif[tag]) for tag in TAGS if tag in exif}
    clear = values.shape[2] in (2, 4)
    tifffile.imwrite(
        file,
        values,
        photometric="rgb" if values.shape[2] > 2 else "minisblack",
        extrasamples=["unassalpha"] if clear else None,
        compression="zlib",
        predictor=False,
        iccprofile=about.get("icc_profile"),
        metadata=None,
        software=False,
        extratags=[(tag, "s", 0, text if isinstance(text, bytes) else str(text), True) for tag, text in texts.items()],
    )


def _png(values: np.ndarray, about: dict[str, Any]) -> bytes:
    height, width, channels = values.shape
    rows = values.astype(">u2").reshape(height, width * channels).view(np.uint8)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # by filter 0, which is none
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0))]
    if "icc_profile" in about:
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(about["icc_profile"])))
    if "exif" in about:
        exif = about["exif"]
        content = exif if isinstance(exif, bytes) else exif.tobytes()
        chunks.append((b"eXIf", content.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
