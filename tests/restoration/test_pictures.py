"""What comes with a picture stays: EXIF wherever it stands, text of every language, shades that are clear."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational
from torchvision.io import ImageReadMode, decode_image

from deblur.restoration.picture import Picture
from tests.restoration.files import pixels, png, tiff_of_12_bits

TEXT = "© Müller"


def exif_with_parts() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Copyright] = TEXT.encode("latin-1")
    taken, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    taken |= {0x829A: IFDRational(1, 50), 0x9000: b"0232", 0x9003: "2026:01:02 03:04:05", 0xA430: b"M\xfcller"}
    place |= {1: "N", 2: (48.0, 8.0, 30.5)}
    exif[ExifTags.IFD.Exif], exif[ExifTags.IFD.GPSInfo] = taken, place
    return exif


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_exif_after_the_pixels_of_a_png_stays(tmp_path, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "a camera"
    later = ((b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),)
    (tmp_path / "a.png").write_bytes(png(pixels().astype(kind), later=later))
    picture = Picture.read(tmp_path / "a.png")
    assert picture.deep == (kind is np.uint16)
    assert picture.upright(picture.pixels).shape == (3, 50, 40)
    picture.write(picture.pixels, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as back:
        back.load()
        assert back.getexif()[ExifTags.Base.Orientation] == 6
        assert back.getexif()[ExifTags.Base.Make] == "a camera"


def test_a_clear_shade_of_16_bits_of_grey_becomes_transparency(tmp_path):
    values = np.arange(0, 60000, 5000, dtype=np.uint16).reshape(3, 4, 1)
    (tmp_path / "a.png").write_bytes(png(values, (b"tRNS", struct.pack(">H", 5000))))
    picture = Picture.read(tmp_path / "a.png")
    assert picture.deep
    picture.write(picture.pixels, tmp_path / "b.png")
    back = decode_image(str(tmp_path / "b.png"), mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(back[..., :1], values)
    np.testing.assert_array_equal(back[..., 1:], np.where(values == 5000, 0, 65535))


def test_12_bits_of_grey_are_written_as_16(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (6, 8))
    values[0, :2] = 0, 4095
    (tmp_path / "a.tif").write_bytes(tiff_of_12_bits(values))
    picture = Picture.read(tmp_path / "a.tif")
    np.testing.assert_allclose(picture.pixels[0].numpy(), values / 4095, atol=1e-5)
    picture.write(picture.pixels, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as back:
        np.testing.assert_array_equal(np.asarray(back), np.round(values * 65535 / 4095))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_of_colour_in_planes_are_read(tmp_path, order):
    planes = np.random.default_rng(0).integers(0, 65536, (3, 40, 50), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", byteorder=order)
    picture = Picture.read(tmp_path / "a.tif")
    torch.testing.assert_close(picture.pixels, torch.from_numpy(planes / 65535).float())


@pytest.mark.parametrize("coding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_text_that_is_not_ascii_stays_to_the_byte(tmp_path, coding, kind):
    text = TEXT.encode(coding)
    tags = [(tag, "s", 0, text, True) for tag in (ExifTags.Base.Artist, ExifTags.Base.Copyright)]
    tifffile.imwrite(tmp_path / "a.tif", pixels().astype(kind), photometric="rgb", extratags=tags)
    picture = Picture.read(tmp_path / "a.tif")
    picture.write(picture.pixels, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as back:
        for tag in (ExifTags.Base.Artist, ExifTags.Base.Copyright):
            assert back.getexif()[tag].encode("latin-1") == text
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("array", [pixels(), pixels(channels=1), pixels(channels=1).astype(np.uint16)])
def test_exposure_and_place_of_a_tiff_stay(tmp_path, caplog, array):
    Image.fromarray(array).save(tmp_path / "a.tif", exif=exif_with_parts())
    picture = Picture.read(tmp_path / "a.tif")
    picture.write(picture.pixels, tmp_path / "b.tif")
    with Image.open(tmp_path / "a.tif") as before, Image.open(tmp_path / "b.tif") as back:
        np.testing.assert_array_equal(np.asarray(back), array)
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            assert len(back.getexif().get_ifd(part)) > 1
            assert back.getexif().get_ifd(part) == before.getexif().get_ifd(part)
        assert back.getexif()[ExifTags.Base.Copyright] == TEXT
    assert not caplog.records


def test_exif_that_cannot_be_written_is_left_out_with_a_line(tmp_path, caplog, monkeypatch):
    Image.fromarray(pixels()).save(tmp_path / "a.tif", exif=exif_with_parts())
    whole = Image.Exif.get_ifd
    odd = {0xA432: (24, 70, 2.8)}  # numbers of two kinds, for which Pillow has no type
    monkeypatch.setattr(Image.Exif, "get_ifd", lambda exif, tag: odd if tag == ExifTags.IFD.Exif else whole(exif, tag))
    picture = Picture.read(tmp_path / "a.tif")
    monkeypatch.undo()
    (record,) = caplog.records
    assert "a.tif: Exif of its EXIF is left out" in record.getMessage()
    picture.write(picture.pixels, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as back:
        assert not back.getexif().get_ifd(ExifTags.IFD.Exif)
        assert back.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"


def test_with_16_bits_of_colour_exposure_and_place_of_a_tiff_are_left_out_with_a_line(tmp_path, caplog):
    Image.fromarray(pixels(2, 2)).save(tmp_path / "exif.tif", exif=exif_with_parts())
    about = Picture.read(tmp_path / "exif.tif").about
    picture = Picture(torch.rand(3, 8, 9), None, True, about)
    picture.write(picture.pixels, tmp_path / "a.png")
    assert not caplog.records
    picture.write(picture.pixels, tmp_path / "a.tif")
    (record,) = caplog.records
    assert "a.tif: exposure and GPS of the EXIF are left out" in record.getMessage()
    with Image.open(tmp_path / "a.png") as png_back, Image.open(tmp_path / "a.tif") as tiff_back:
        assert png_back.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert tiff_back.getexif()[ExifTags.Base.Copyright] == TEXT
