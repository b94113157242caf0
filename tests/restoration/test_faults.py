"""Bad files and bad disks: one line for each, the other pictures are restored, and nothing half-written stays."""

from __future__ import annotations

import errno
import io
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from deblur.restoration import picture as pictures
from tests.restoration.files import pixels, png_of_rows
from tests.training.test_weights import made_run

TASK = {"config": "restore", "task": "deblur.restoration.restore:restore"}


def saved(array: np.ndarray, kind: str, mode: str | None = None, **settings) -> bytes:
    content, image = io.BytesIO(), Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(content, format=kind, **settings)
    return content.getvalue()


def integers(kind: str) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, np.full((8, 9), 70, dtype=kind))
    return content.getvalue()


OTHER = [Image.fromarray(255 - pixels())]
GOOD = {
    "plain.png": saved(pixels(), "PNG"),
    "cmyk.jpg": saved(pixels(), "JPEG", "CMYK"),
    "palette.png": saved(pixels(), "PNG", "P", transparency=3),
}
BAD = {
    "bomb.png": (png_of_rows((50000, 50000, 1), 16, b""), "exceeds limit"),
    "empty.png": (b"", "cannot be read as a picture"),
    "nothing.png": (png_of_rows((0, 0, 3), 8, b""), "cannot be read as a picture"),
    "cut.jpg": (saved(pixels(), "JPEG")[:-400], "truncated"),
    "cut.png": (saved(pixels(), "PNG")[:-400], "cannot be read as a picture"),
    "moving.png": (saved(pixels(), "GIF", save_all=True, append_images=OTHER), "cannot be read as a picture"),
    "moving.webp": (saved(pixels(), "WEBP", save_all=True, append_images=OTHER), "has 2 pictures"),
    "pages.tif": (saved(pixels(), "TIFF", save_all=True, append_images=OTHER), "has 2 pictures"),
    "int32.tif": (integers("int32"), "has pixels of 32 bits or with a sign; must have 8 or 16 bits"),
    "uint32.tif": (integers("uint32"), "has pixels of 32 bits or with a sign; must have 8 or 16 bits"),
    "int16.tif": (integers("int16"), "has pixels of 32 bits or with a sign; must have 8 or 16 bits"),
}


@pytest.fixture
def restore(door, tmp_path, tiny_root):
    """The door, and a run of a tiny network for grey; pictures are looked for in `photos`."""
    run = made_run(tmp_path / "run", tiny_root, "model=cnn", "model.width=4", "model.depth=2")
    (tmp_path / "photos").mkdir()
    return partial(door, f"run={run}", "input=photos", "output=restored", "accelerator=cpu", **TASK)


def made_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_each_bad_file_is_one_line_and_the_others_are_restored(restore, tmp_path):
    for name, content in (GOOD | {name: content for name, (content, _) in BAD.items()}).items():
        (tmp_path / "photos" / name).write_bytes(content)
    ended = restore()
    assert ended.code == 1
    assert f"restored: {len(GOOD)} of {len(GOOD) + len(BAD)}" in ended.out
    lines = ended.err.strip().splitlines()
    assert len(lines) == len(BAD)
    for line, (name, (_, said)) in zip(lines, sorted(BAD.items()), strict=True):
        assert f"photos/{name}: " in line
        assert said in line
    assert made_in(tmp_path / "restored") == set(GOOD)
    with Image.open(tmp_path / "restored/palette.png") as image, Image.open(tmp_path / "photos/palette.png") as before:
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[..., 3], np.asarray(before.convert("RGBA"))[..., 3])
    with Image.open(tmp_path / "restored/cmyk.jpg") as image:
        assert image.mode == "RGB"


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_what_cannot_be_written_whole_is_one_line_and_leaves_nothing(restore, tmp_path, monkeypatch, fault, deep):
    for name in ("a.tif", "b.tif"):
        array = pixels().astype(np.uint16) * 257 if deep else pixels()
        tifffile.imwrite(tmp_path / "photos" / name, array, photometric="rgb")
    write = pictures.write_deep if deep else Image.Image.save

    def fail(*arguments, **settings) -> None:
        file = next(argument for argument in arguments if isinstance(argument, Path))
        if ".a." not in file.name:
            write(*arguments, **settings)
            return
        file.write_bytes(b"half a pict")
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(*((pictures, "write_deep") if deep else (Image.Image, "save")), fail)
    ended = restore()
    assert ended.code == 1
    assert "restored: 1 of 2" in ended.out
    (line,) = ended.err.strip().splitlines()
    assert "restored/a.tif: cannot be written" in line
    assert os.strerror(fault) in line
    assert made_in(tmp_path / "restored") == {"b.tif"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_line(restore, tmp_path):
    for name in ("a.png", "locked/b.png"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(GOOD["plain.png"])
    (tmp_path / "restored/locked").mkdir(parents=True)
    (tmp_path / "restored/locked").chmod(0o555)
    ended = restore()
    assert ended.code == 1
    (line,) = ended.err.strip().splitlines()
    assert "restored/locked/b.png: cannot be written" in line
    assert "Permission denied" in line
    assert made_in(tmp_path / "restored") == {"a.png"}
    (tmp_path / "restored").chmod(0o555)
    ended = restore()
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "output=restored: cannot be written" in line
