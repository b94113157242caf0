"""PSFs from the user's files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deblur.blur import Camera, Kernels, Motion
from deblur.data.picture_files import FORMATS
from deblur.errors import ArgumentError, check_path

_PICTURES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
_MOST_PIXELS = 1024  # of a PSF's side
_MOST_BYTES = 2**28  # of all PSFs: what is asked for by a hostile header, or a small file that unpacks to much


class KernelFile(Kernels):
    """Blur with the PSFs in a file: `.npy` or `.npz` (K, K) or (N, K, K), a picture, or a folder of pictures.

    PSFs of several sizes are centred on the largest; an even side gets one more row and column of zeros.

    Args:
        path: the file or folder.
        registration, padding, noise, camera: see `Kernels`.

    Raises:
        ArgumentError: the file cannot be read, or holds no PSFs.
    """

    def __init__(
        self,
        path: str,
        *,
        registration: str = "centroid",
        padding: str = "zeros",
        noise: float | Sequence[float] = 0.0,
        camera: Camera | None = None,
    ) -> None:
        self.path = path
        file = check_path("path", path, "a .npy file, a picture or a folder of pictures with PSFs")
        try:
            psfs = _stacked(_read(file))
        except Exception as error:  # numpy, zipfile and Pillow raise many kinds for damaged files
            reason = getattr(error, "strerror", None) or error
            raise ArgumentError(
                "path", path, f"a .npy file, a picture or a folder of them with PSFs: {reason}"
            ) from None
        try:
            super().__init__(psfs, registration=registration, padding=padding, noise=noise, camera=camera)
        except ArgumentError as error:
            if error.name != "psfs":
                raise
            raise ArgumentError(
                "path", path, f"PSFs: those in the file are {error.value}, not {error.allowed}"
            ) from None

    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        try:
            return super().draw(batch_size, image_size, generator)
        except ArgumentError as error:
            size = "x".join(map(str, image_size))
            raise ArgumentError(
                "path", self.path, f"PSFs no larger than the images of {size}: centred they are {error.value}"
            ) from None


def _read(path: Path) -> list[np.ndarray]:
    if path.is_dir():
        seen = (file for file in path.iterdir() if not file.name.startswith("."))
        files = sorted(file for file in seen if file.suffix.lower() in _PICTURES)
        if not files:
            raise ValueError("there is no picture in the folder")
        return [_read_picture(file) for file in files]
    if path.suffix.lower() in _PICTURES:
        return [_read_picture(path)]
    psfs = []
    for array in _arrays(path):
        if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise ValueError(f"an array of shape {array.shape} and type {array.dtype} is no PSF")
        psfs.extend(array[None] if array.ndim == 2 else array)
    return psfs


def _arrays(path: Path) -> list[np.ndarray]:
    if not zipfile.is_zipfile(path):
        return [np.load(path, mmap_mode="r", allow_pickle=False)]  # a map is never larger than its file
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"it unpacks to {size} bytes, more than the {_MOST_BYTES} that are read")
    with np.load(path, allow_pickle=False) as loaded:
        arrays = [loaded[name] for name in loaded.files]
    if not all(isinstance(array, np.ndarray) for array in arrays):
        raise ValueError("a member of the archive is no array")
    return arrays


def _read_picture(file: Path) -> np.ndarray:
    with Image.open(file, formats=FORMATS) as picture:
        if max(picture.size) > _MOST_PIXELS:
            raise ValueError(f"{file.name} is larger than {_MOST_PIXELS} pixels")
        return np.asarray(picture.convert("F"))


def _stacked(psfs: list[np.ndarray]) -> Tensor:
    side = max((max(psf.shape) for psf in psfs), default=0) | 1
    if side > _MOST_PIXELS | 1 or len(psfs) * side**2 * 8 > _MOST_BYTES:
        raise ValueError(f"{len(psfs)} PSFs of up to {side}x{side} pixels are too many, or too large")
    stacked = torch.zeros(len(psfs), side, side, dtype=torch.float64)
    for target, psf in zip(stacked, psfs, strict=True):
        top, left = ((side - n) // 2 for n in psf.shape)
        target[top : top + psf.shape[0], left : left + psf.shape[1]] = torch.from_numpy(psf.astype(np.float64))
    return stacked
