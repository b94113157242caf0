"""Pictures from files and back: 8 or 16 bits, transparency, colour profile and EXIF stay as they are."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from deblur.data.picture_files import FORMATS, check_readable, read_deep, upright, white_of
from deblur.errors import UsageError, shown
from deblur.restoration.deep import PARTS, TAGS, exif_of, text_as_stored, write_deep
from deblur.restoration.deep import SUFFIXES as DEEP_SUFFIXES

log = logging.getLogger(__name__)

_BITS = ExifTags.Base.BitsPerSample
_LUMINANCE = (0.299, 0.587, 0.114)
_QUALITY = {".jpg": {"quality": 95, "subsampling": 0}, ".jpeg": {"quality": 95, "subsampling": 0}}
_QUALITY[".webp"] = {"quality": 95}


@dataclass
class Picture:
    """A picture as stored: not turned by its EXIF orientation, which is kept beside it; but a TIFF is turned upright.

    Attributes:
        pixels: (1 or 3, H, W) in [0, 1], without transparency.
        alpha: (H, W, 1) uint8, or uint16 where `deep`, or None.
        deep: whether it has 16 bits a channel.
        about: colour profile and EXIF, for saving.
    """

    pixels: Tensor
    alpha: np.ndarray | None
    deep: bool
    about: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> Picture:
        """The picture in a file; of a JPEG with others inside, as some telephones make, the first.

        Raises:
            UsageError: it is no picture, damaged, moves, or has pixels that `check_readable` refuses.
        """
        try:
            with Image.open(file, formats=FORMATS) as image:
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    raise UsageError(f"{file}: has {image.n_frames} pictures; only files with one are restored")
                check_readable(image, file)
                stored, bits = str([part.args for part in image.tile]), getattr(image, "tag_v2", {}).get(_BITS, ())
                deep = ";16" in stored or 16 in bits  # which Pillow does not see of a TIFF in planes
                white = white_of(image)
                image.load()  # the EXIF of a PNG may come after its pixels
                about = _about(image, file)
                clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
                if image.mode.startswith("I"):
                    whole, deep = _deep_grey(image, white), True
                elif deep and (found := _deep(file, image, stored)) is not None:
                    whole, clear = found, found.shape[2] in (2, 4)
                else:
                    deep, grey = False, image.mode in ("L", "LA", "1")
                    if image.mode == "CMYK":
                        about.pop("icc_profile", None)  # it is one of CMYK
                    whole = np.asarray(image.convert("RGBA" if clear else "L" if grey else "RGB"))
                    whole = whole if whole.ndim == 3 else whole[..., None]
                    whole = whole[..., [0, 3]] if clear and grey else whole
        except UsageError:
            raise
        except Exception as error:  # Pillow raises many kinds for damaged files
            raise UsageError(f"{file}: cannot be read as a picture ({shown(error)})") from error
        colours, alpha = (whole[..., :-1], whole[..., -1:]) if clear else (whole, None)
        return cls(_as_tensor(colours.astype(np.float32) / np.iinfo(whole.dtype).max), alpha, deep, about)

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

    def upright(self, pixels: Tensor) -> Tensor:
        """Pixels as stored, (C, H, W), turned as the EXIF says."""
        try:
            turn = exif_of(self.about).get(ExifTags.Base.Orientation)
        except Exception:  # Pillow raises many kinds for damaged EXIF, which turns nothing
            return pixels
        return _as_tensor(upright(pixels.permute(1, 2, 0).numpy(), turn))

    def write(self, pixels: Tensor, file: Path) -> None:
        """Write the pixels to a file with all else of this picture, whole or not at all.

        Raises:
            UsageError: the file cannot be written.
        """
        kind = np.uint16 if self.deep else np.uint8
        whole = (pixels.permute(1, 2, 0).numpy() * np.iinfo(kind).max).round().astype(kind)
        if self.alpha is not None:
            whole = np.concatenate([whole, self.alpha], axis=2)
        temporary = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if self.deep and whole.shape[2] > 1 and file.suffix.lower() in DEEP_SUFFIXES:
                write_deep(temporary, whole, self.about)
                if file.suffix.lower() != ".png" and any(part in exif_of(self.about) for part in PARTS):
                    log.warning("%s: exposure and GPS of the EXIF are left out, with 16 bits of colour", file)
            else:
                whole = (whole / 257).round().astype(np.uint8) if self.deep and whole.shape[2] > 1 else whole
                image = Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)
                image.save(temporary, **self.about, **_QUALITY.get(file.suffix.lower(), {}))
            temporary.replace(file)
        except (OSError, ValueError) as error:
            raise UsageError(f"{file}: cannot be written ({shown(error)})") from error
        finally:
            with suppress(OSError):  # what could not be made is not there, or stays for the same reason
                temporary.unlink()


def _about(image: Image.Image, file: Path) -> dict[str, Any]:
    """Colour profile and EXIF, for saving."""
    about = {key: image.info[key] for key in ("icc_profile", "exif") if image.info.get(key)}
    if image.format == "TIFF":  # its own tags are EXIF's, among those of how it is stored
        found, exif = image.getexif(), Image.Exif()
        exif.update({tag: text_as_stored(found[tag]) for tag in TAGS if tag in found})
        for part in PARTS:
            try:
                _copy(found, exif, part)
            except Exception as error:  # Pillow raises many kinds for damaged EXIF
                log.warning("%s: %s of its EXIF is left out (%s)", file, part.name, shown(error))
        about |= {"exif": exif} if len(exif) else {}
    return about


def _copy(found: Image.Exif, exif: Image.Exif, part: ExifTags.IFD) -> None:
    """Copy a part of EXIF, without the place in the file of a part of its own; nothing if it cannot be written."""
    values = {tag: text_as_stored(value) for tag, value in found.get_ifd(part).items() if tag != ExifTags.IFD.Interop}
    trial = Image.Exif()
    trial[part] = values
    trial.tobytes()
    if values:
        exif.get_ifd(part).update(values)
        exif[part] = exif.get_ifd(part)


def _deep_grey(image: Image.Image, white: int) -> np.ndarray:
    """The pixels of 16 or 12 bits of grey as uint16, (H, W, 1), or (H, W, 2) where one shade is clear."""
    values = (np.asarray(image) * (65535 / white)).round().astype(np.uint16)[..., None]
    shade = image.info.get("transparency")
    if shade is None:
        return values
    return np.concatenate([values, np.where(values == shade, 0, 65535).astype(np.uint16)], axis=2)


def _deep(file: Path, image: Image.Image, stored: str) -> np.ndarray | None:
    """The pixels of 16 bits of colour, (H, W, C); None, and a warning, if only 8 of them can be read."""
    try:
        whole = read_deep(file, str(image.format))
    except Exception as error:
        log.warning("%s: 16 bits of colour become 8 (%s)", file, shown(error))
        return None
    # Of grey with transparency, Pillow makes RGBA.
    channels = {"RGB": (3,), "RGBA": (2, 4), "LA": (2,)}.get(image.mode, ())
    fits = whole.dtype == np.uint16 and whole.ndim == 3 and whole.shape[1::-1] == image.size
    if not fits or whole.shape[2] not in channels or "transparency" in image.info or "a;16" in stored:
        log.warning("%s: 16 bits of colour become 8", file)
        return None
    return whole


def _as_tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
