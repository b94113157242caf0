"""Data that is damaged, cut off, of another kind, or not finite."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from deblur.faults.row import Row, Setting
from deblur.faults.tiny import TINY, call_door, is_one_line, write_digits, write_idx


def run(setting: Setting) -> list[Row]:
    """Train on each once."""
    row = Row("bad data", "one line, exit code 2, no folder")
    for number, (name, (spoil, arguments, said)) in enumerate(BAD_DATA.items()):
        setting.say(f"bad data: {number + 1} of {len(BAD_DATA)}, {name}")
        folder = setting.folder / f"data-{number:02d}"
        folder.mkdir()
        row.note(name, try_data(spoil, arguments, said, folder))
    return [row]


_TRAIN = "MNIST/raw/train-images-idx3-ubyte"
_DIGITS, _PSFS, _PHOTOS = ("data.root=data",), ("blur=kernels",), ("data=images", "data.root=photos", "data.size=32")


def _images(content: bytes | np.ndarray, packed: bool = False) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "data" / _TRAIN
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            write_idx(file, content)
        if packed:
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes())[:-5])
            file.unlink()

    return spoil


def _psfs(array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "psfs.npy", array)


def _photos(spoil: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "photos").mkdir()
        random = np.random.default_rng(0)
        for number in range(6):
            sides = (64 + 8 * number, 96, 3)
            Image.fromarray(random.integers(0, 256, sides, dtype=np.uint8)).save(folder / f"photos/{number}.png")
        spoil(folder / "photos")

    return make


_NAN_PSF = np.full((3, 3), np.nan)
BAD_DATA: dict[str, tuple[Callable[[Path], None], tuple[str, ...], str]] = {
    "labels for images": (_images(np.arange(200)), _DIGITS, "28x28"),
    "an empty file of images": (_images(b""), _DIGITS, "no IDX file"),
    "images of 16 bits": (_images(b"\0\0\x0b\x03" + b"\0" * 12), _DIGITS, "no IDX file of unsigned bytes"),
    "images cut off": (_images(b"\0\0\x08\x03\0\0\0\xc8\0\0\0\x1c\0\0\0\x1c" + b"\0" * 999), _DIGITS, "shorter"),
    "images cut off in their archive": (_images(np.zeros((200, 28, 28)), packed=True), _DIGITS, "damaged"),
    "images of another size": (_images(np.zeros((200, 32, 32))), _DIGITS, "28x28"),
    "no images": (_images(np.zeros((0, 28, 28))), _DIGITS, "28x28"),
    "four thousand million images": (_images(b"\0\0\x08\x03" + b"\xff" * 12), _DIGITS, "more than"),
    "a page of HTML for images": (_images(b"<html>404</html>"), _DIGITS, "no IDX file"),
    "PSFs of NaN": (_psfs(_NAN_PSF), (*_PSFS, "blur.path=psfs.npy"), "finite"),
    "a PSF with infinity": (_psfs(np.array([[1.0, np.inf]])), (*_PSFS, "blur.path=psfs.npy"), "finite"),
    "negative PSFs": (_psfs(-np.ones((3, 3))), (*_PSFS, "blur.path=psfs.npy"), "PSFs"),
    "PSFs of words": (_psfs(np.array([["a", "b"]])), (*_PSFS, "blur.path=psfs.npy"), "no PSF"),
    "complex PSFs": (_psfs(np.ones((3, 3), complex)), (*_PSFS, "blur.path=psfs.npy"), "no PSF"),
    "a photograph that is text": (_photos(lambda f: (f / "0.png").write_text("no picture")), _PHOTOS, "0.png"),
    "an empty photograph": (_photos(lambda f: (f / "0.png").write_bytes(b"")), _PHOTOS, "0.png"),
    "photographs cut off": (
        _photos(lambda f: [file.write_bytes(file.read_bytes()[:999]) for file in sorted(f.glob("*.png"))]),
        _PHOTOS,
        "cannot be read as a picture",
    ),
    "a training photograph cut off": (
        _photos(lambda f: (f / "3.png").write_bytes((f / "3.png").read_bytes()[:999])),
        _PHOTOS,
        "3.png: cannot be read as a picture",
    ),
}


def try_data(spoil: Callable[[Path], None], arguments: tuple[str, ...], said: str, folder: Path) -> str | None:
    """What is not well with how a training on bad data is refused, or None."""
    data = write_digits(folder / "data")
    spoil(folder)
    before = sorted(folder.rglob("*"))
    tiny = [setting for setting in TINY if not (arguments[0].startswith("blur") and setting.startswith("blur."))]
    if arguments[0] == "data=images":
        tiny = [setting for setting in tiny if not setting.startswith("data.val_size")]
    ended = call_door(folder, data, *tiny, *arguments)
    failure = is_one_line(ended)
    if failure is None and said not in ended.err:
        failure = f"does not say {said!r}: {ended.err.strip()}"
    if failure is None and sorted(folder.rglob("*")) != before:
        failure = "leaves files"
    return failure
