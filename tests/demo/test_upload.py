"""Pictures that are sent to the page are opened within bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from deblur.demo.upload import read_upload
from deblur.errors import UsageError

LIMITS = {"most_mb": 1.0, "longest_side": 128}


def pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_picture_comes_as_it_is(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels(40, 50)).save(file)
    image = read_upload(file, **LIMITS)
    torch.testing.assert_close(image, torch.from_numpy(pixels(40, 50)).permute(2, 0, 1) / 255)


def test_a_grey_picture_has_one_channel_and_a_large_one_is_scaled_down(tmp_path):
    Image.fromarray(pixels(100, 400, 1)).save(tmp_path / "grey.png")
    assert read_upload(tmp_path / "grey.png", **LIMITS).shape == (1, 32, 128)


def test_a_picture_stands_upright(tmp_path):
    image = Image.fromarray(pixels(40, 50))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_upload(tmp_path / "a.jpg", **LIMITS).shape == (3, 50, 40)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", b"no picture", "a.png: cannot be read as a picture"),
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "a.png: cannot be read as a picture"),
        ("a.png", b"x" * 1_100_000, "a.png: is larger than 1 MB"),
        ("a.bmp", (4, 20), "at least 16 a side"),
        ("a.png", (20, 2000), "too long and narrow"),
    ],
    ids=["text", "postscript", "bytes", "small", "narrow"],
)
def test_what_cannot_be_taken_is_said_without_the_folder(tmp_path, name, content, said):
    file = tmp_path / name
    if isinstance(content, tuple):
        Image.fromarray(pixels(*content)).save(file)
    else:
        file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_upload(file, **LIMITS)
    assert said in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_a_small_file_of_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr("deblur.demo.upload.read_photograph", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UsageError, match=r"bomb.png: has 9000x9000 pixels; at most 50 million"):
        read_upload(tmp_path / "bomb.png", **LIMITS)
