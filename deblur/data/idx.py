"""Reader of IDX files, the format of MNIST: http://yann.lecun.com/exdb/mnist/."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_MOST_BYTES = 2**30  # far more than any file of this family; bounds what a hostile header can ask for


def read_idx(path: Path) -> Tensor:
    """The array in an IDX file of unsigned bytes, plain or gzip-compressed, as a uint8 tensor of the file's shape.

    Raises:
        ValueError: the file is no IDX file of unsigned bytes, or not as long as its header says.
        OSError: it cannot be read.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
                raise ValueError("is no IDX file of unsigned bytes")
            header = file.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise ValueError("ends within its header")
            shape = struct.unpack(f">{magic[3]}I", header)
            size = math.prod(shape)
            if size > _MOST_BYTES:
                raise ValueError(f"claims {size} bytes, more than the {_MOST_BYTES} that are read")
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"is damaged ({error})") from error
    if len(content) != size:
        raise ValueError(f"is {'longer' if len(content) > size else 'shorter'} than its header says ({size} bytes)")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()).view(shape)
