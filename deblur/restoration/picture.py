"""Pictures from files and back: 8 bits or 16 of grey, transparency, colour profile and EXIF stay as they are."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deblur.data.photographs import FORMATS, refuse_floats
from deblur.errors import UsageError, shown

log = logging.getLogger(__name__)

_LUMINANCE = (0.299, 0.587, 0.114)
_QUALITY = {".jpg": {"quality": 95, "subsampling": 0}, ".jpeg": {"quality": 95, "subsampling": 0}}
_QUALITY[".webp"] = {"quality": 95}


@dataclass
class Picture:
    """A picture as stored: not turned by its EXIF orientation, which is kept beside it.

    Attributes:
        pixels: (1 or 3, H, W) in [0, 1], without transparency.
        alpha: (H, W) uint8, or None.
        deep: whether it has 16 bits of grey.
        about: colour profile and EXIF, for saving.
    """

    pixels: Tensor
    alpha: np.ndarray | None
    deep: bool
    about: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> Picture:
        """The picture in a file; a warning if it has 16 bits of colour, of which Pillow reads 8.

        Raises:
            UsageError: it is no picture, damaged, moves, or has floating-point pixels.
        """
        try:
            with Image.open(file, formats=FORMATS) as image:
                if getattr(image, "n_frames", 1) > 1:
                    raise UsageError(f"{file}: has {image.n_frames} pictures; only files with one are restored")
                refuse_floats(image, file)
                about = {key: image.info[key] for key in ("icc_profile", "exif") if image.info.get(key)}
                deep = image.mode.startswith("I")
                if deep:
                    pixels = np.asarray(image, dtype=np.float32)[..., None] / 65535
                    return cls(_as_tensor(pixels), None, True, about)
                if any("16" in str(part[3]) for part in image.tile):  # how the file stores its pixels
                    log.warning("%s: 16 bits of colour become 8", file)
                clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
                grey = image.mode in ("L", "LA", "1")
                if image.mode == "CMYK":
                    about.pop("icc_profile", None)  # it is one of CMYK
                whole = np.asarray(image.convert("RGBA" if clear else "L" if grey else "RGB"))
        except UsageError:
            raise
        except Exception as error:  # Pillow raises many kinds for damaged files
            raise UsageError(f"{file}: cannot be read as a picture ({shown(error)})") from error
        whole = whole if whole.ndim == 3 else whole[..., None]
        colours = whole[..., : 1 if grey else 3].astype(np.float32) / 255
        return cls(_as_tensor(colours), whole[..., 3] if clear else None, False, about)

    def through(self, network: Any, channels: int) -> Tensor:
        """The pixels restored by a network of 1 or 3 channels: colour through a grey one by luminance.

        Args:
            network: from (C, H, W) to the same.
            channels: C, of the network.
        """
        pixels = self.pixels
        if len(pixels) == channels:
            made = network(pixels)
        elif channels == 1:
            weights = pixels.new_tensor(_LUMINANCE).view(3, 1, 1)
            luminance = (pixels * weights).sum(0, keepdim=True)
            made = pixels + (network(luminance) - luminance)  # the differences of the colours stay
        else:
            made = network(pixels.expand(channels, -1, -1)).mean(0, keepdim=True)
        return made.clamp(0, 1)

    def write(self, pixels: Tensor, file: Path) -> None:
        """Write the pixels to a file with all else of this picture, whole or not at all.

        Raises:
            UsageError: the file cannot be written.
        """
        values = pixels.permute(1, 2, 0).numpy()
        if self.deep:
            image = Image.fromarray((values[..., 0] * 65535).round().astype(np.uint16))
        else:
            whole = (values * 255).round().astype(np.uint8)
            if self.alpha is not None:
                whole = np.concatenate([whole, self.alpha[..., None]], axis=2)
            image = Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)
        temporary = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(temporary, **self.about, **_QUALITY.get(file.suffix.lower(), {}))
            temporary.replace(file)
        except (OSError, ValueError) as error:
            raise UsageError(f"{file}: cannot be written ({shown(error)})") from error
        finally:
            temporary.unlink(missing_ok=True)


def _as_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
