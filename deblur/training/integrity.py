"""Whether a checkpoint is as it was written, and holds nothing that could harm: told without opening it."""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

# What the tensors and containers of a checkpoint are made by. torch allows more, such as bytearray(10**12).
_MAKERS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch (\w+Storage|Size)")
_DTYPE = re.compile(r"torch (b?float|complex|u?int)\d+|torch bool")


def check_whole(path: Path) -> None:
    """Refuses a file that is not as `torch.save` writes them.

    Such a file is a zip archive with a CRC-32 of each of its parts, which `torch.load` does not look at: it would take
    weights with flipped bits. Nor does it refuse compressed parts, a few kilobytes of which can fill any memory.

    Raises:
        ValueError: it is damaged, or made otherwise.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 1 for part in parts):
                raise ValueError("has compressed parts")
            if sum(part.file_size for part in parts) > size:
                raise ValueError("has parts that overlap")
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
            for part in parts:
                if part.filename.endswith("/data.pkl"):
                    _check_makers(archive.read(part))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, IndexError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _check_makers(content: bytes) -> None:
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("STACK_GLOBAL", "INST") or (
            operation.name == "GLOBAL" and not (_MAKERS.fullmatch(argument) or _DTYPE.fullmatch(argument))
        ):
            raise ValueError(f"would call {argument or 'something'}")
