"""Files of pictures that Pillow does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np

CHANNELS = {1: 0, 2: 4, 3: 2, 4: 6}  # the colour types of PNG by them


def pixels(height: int = 40, width: int = 50, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def png(values: np.ndarray, *chunks: tuple[bytes, bytes], later: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG of pixels, (H, W, C) of 8 or 16 bits, with further chunks before and after them."""
    rows = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values)
    return png_of_rows(values.shape, 8 * values.itemsize, rows, *chunks, later=later)


def png_of_rows(
    shape: tuple[int, int, int],
    bits: int,
    rows: bytes,
    *chunks: tuple[bytes, bytes],
    later: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """A PNG that says it holds pixels of this shape, (H, W, C), whatever its rows are."""
    header = struct.pack(">IIBBBBB", shape[1], shape[0], bits, CHANNELS[shape[2]], 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), *later, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def tiff_of_12_bits(values: np.ndarray) -> bytes:
    """A TIFF of grey, (H, W), an even number of pixels a row, each below 4096."""
    first, second = values[:, ::2].astype(int), values[:, 1::2].astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8).tobytes()
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(packed))])
    start = 8 + len(packed)
    return struct.pack("<2sHI", b"II", 42, start) + packed + struct.pack("<H", len(tags) + 1) + entries + bytes(4)
