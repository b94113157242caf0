"""Photographs from files: every kind is read upright, crops are fixed or fresh, and nothing is made up at borders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy.signal import convolve2d

from deblur.blur import Kernels, Line, RandomWalk, Shake, Shake3D
from deblur.data.pairs import EvaluationPairs
from deblur.data.photographs import Photographs, _find
from deblur.data.picture_files import read_photograph
from deblur.errors import ArgumentError, UsageError
from tests.restoration.files import tiff_of_12_bits


def picture(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve colour pictures of two sizes, in nested folders."""
    for number in range(12):
        place = tmp_path / "photos" / f"part {number % 2}" / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(60 + number % 3, 80, number)).save(place)
    return tmp_path / "photos"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
def test_colour_is_read_as_it_was_written(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    read = read_photograph(tmp_path / f"a{suffix}", 3)
    assert torch.equal(read, torch.from_numpy(picture()).permute(2, 0, 1))


def test_grey_is_luminance_and_grey_as_colour_is_three_times_the_same(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    luminance = picture().astype(float) @ (0.299, 0.587, 0.114)
    assert np.abs(read_photograph(tmp_path / "a.png", 1)[0].numpy() - luminance).max() <= 1
    Image.fromarray(picture()[..., 0]).save(tmp_path / "b.png")
    assert torch.equal(read_photograph(tmp_path / "b.png", 3), torch.from_numpy(picture()[..., 0]).expand(3, -1, -1))


def test_a_turned_camera_is_turned_back(tmp_path):
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_photograph(tmp_path / "a.png", 3), torch.from_numpy(picture()).rot90(-1).permute(2, 0, 1))


def test_sixteen_bits_become_eight_and_transparency_is_left_out(tmp_path):
    deep = (picture()[..., 0].astype(np.uint16)) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert torch.equal(read_photograph(tmp_path / "deep.png", 1)[0], torch.from_numpy(picture()[..., 0]))
    (tmp_path / "12.tif").write_bytes(tiff_of_12_bits(np.round(picture()[..., 0] * (4095 / 255)).astype(np.uint16)))
    assert torch.equal(read_photograph(tmp_path / "12.tif", 1)[0], torch.from_numpy(picture()[..., 0]))
    clear = np.dstack([picture(), np.zeros((60, 80), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert torch.equal(read_photograph(tmp_path / "clear.png", 3), torch.from_numpy(picture()).permute(2, 0, 1))


def test_cmyk_in_planes_of_sixteen_bits_is_refused(tmp_path):
    planes = np.zeros((4, 60, 80), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="separated", planarconfig="separate")
    with pytest.raises(UsageError, match=r"a\.tif: has CMYK in planes of 16 bits; must be RGB or grey, or 8 bits"):
        read_photograph(tmp_path / "a.tif", 3)


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_in_planes_become_eight(tmp_path, order, compression, turn):
    planes = np.moveaxis(picture().astype(np.uint16) * 257, -1, 0)
    stored = {"photometric": "rgb", "planarconfig": "separate", "byteorder": order, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", planes, **stored, extratags=[(274, "H", 1, turn, True)])
    expected = torch.from_numpy(np.rot90(picture(), -1).copy() if turn == 6 else picture()).permute(2, 0, 1)
    assert torch.equal(read_photograph(tmp_path / "a.tif", 3), expected)
    grey = read_photograph(tmp_path / "a.tif", 1)[0].double()
    luminance = (expected.double() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)
    torch.testing.assert_close(grey, luminance, atol=1.0, rtol=0)


@pytest.mark.parametrize("kind", ["int16", "int32", "uint32", "float32"])
def test_numbers_that_do_not_say_what_is_white_are_refused(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tif", np.full((60, 80), 70, dtype=kind))
    with pytest.raises(UsageError, match=r"a\.tif: has .*; must have 8 or 16 bits a channel"):
        read_photograph(tmp_path / "a.tif", 1)


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n half of one"], ids=["empty", "text", "cut"]
)
def test_a_damaged_picture_is_named_in_one_line(folder, content):
    (folder / "bad.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.png: cannot be read as a picture") as refused:
        _ = Photographs(Line(length=3), root=str(folder), size=16).images
    assert "\n" not in str(refused.value)


def test_a_picture_cut_off_in_its_middle_is_named_when_it_is_read(folder):
    whole = (folder / "part 0/00.png").read_bytes()
    (folder / "part 0/00.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"00\.png: cannot be read as a picture"):
        read_photograph(folder / "part 0/00.png", 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_pairs_are_the_valid_part_of_a_larger_crop(folder, channels):
    data = Photographs(Line(length=9), root=str(folder), size=32, channels=channels, batch_size=4)
    margin = data.margin
    assert margin == 5
    pairs, images = data.evaluation_pairs("test")[0:4], data.images.test[:4]
    assert pairs.sharp.shape == pairs.blurred.shape == (4, channels, 32, 32)
    assert images.shape[-2:] == (32 + 2 * margin, 32 + 2 * margin)
    for number in range(4):
        for channel in range(channels):
            whole = images[number, channel].double().numpy() / 255
            psf = pairs.motion.psf[number, 0].double().numpy()
            expected = convolve2d(whole, psf, mode="valid")
            np.testing.assert_allclose(pairs.blurred[number, channel], expected, atol=1e-5)
            np.testing.assert_allclose(pairs.sharp[number, channel], whole[margin:-margin, margin:-margin], atol=1e-6)


def test_evaluation_crops_are_fixed_and_training_crops_fresh(folder):
    settings = {"root": str(folder), "size": 16, "batch_size": 4}
    first, again = (Photographs(Shake(length=5), **settings, seed=seed) for seed in (0, 1))
    for split in ("val", "test"):
        one, other = first.evaluation_pairs(split), again.evaluation_pairs(split)
        assert len(one) == 4
        assert torch.equal(one[0:4].blurred, other[0:4].blurred)
    moved = Photographs(Shake(length=5), **settings, eval_seed=1)
    assert not torch.equal(moved.images.test, first.images.test)
    batches = [[batch.images for batch in data.train_dataloader()] for data in (first, first, again)]
    assert len(batches[0]) == 10 * 16 // 4
    assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True))  # the same epoch
    assert not any(torch.equal(a, b) for a, b in zip(batches[0], batches[2], strict=True))
    assert not torch.equal(batches[0][0], batches[0][1])


def test_crops_are_of_the_photographs_flipped_and_turned(folder):
    data = Photographs(Line(length=1), root=str(folder), size=16, batch_size=4)
    photos = [data.images.train.photos[number] for number in range(10)]
    views = [photo.rot90(turn, (1, 2)) for photo in photos for turn in range(4)]
    views += [view.flip(2) for view in views]
    windows = [view.unfold(1, 18, 1).unfold(2, 18, 1).permute(1, 2, 0, 3, 4).flatten(0, 1) for view in views]
    batch = next(iter(data.train_dataloader())).images
    assert batch.shape == (4, 3, 18, 18)
    for crop in batch:
        assert any((window == crop).flatten(1).all(1).any() for window in windows)


def made_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_subfolders_are_the_splits_and_splits_share_no_photograph(folder, tmp_path):
    mixed = Photographs(Line(length=3), root=str(folder), size=16)
    files = mixed._split(sorted(folder.rglob("*.png")))
    assert {split: len(there) for split, there in files.items()} == {"train": 10, "val": 1, "test": 1}
    assert len({file for there in files.values() for file in there}) == 12
    for number, split in enumerate(("train", "train", "val", "test")):
        (tmp_path / "named" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=number)).save(tmp_path / "named" / split / f"{number}.png")
    named = Photographs(Line(length=3), root=str(tmp_path / "named"), size=16)
    assert len(named.images.train) == 2 * 16
    assert len(named.images.val) == len(named.images.test) == 4


def test_a_folder_of_train_and_val_alone_is_tested_on_val(folder, tmp_path):
    for number, split in enumerate(("train", "train", "train", "val", "val")):
        (tmp_path / "named" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=number)).save(tmp_path / "named" / split / f"{number}.png")
    data = Photographs(Line(length=3), root=str(tmp_path / "named"), size=16)
    files = data._split(sorted((tmp_path / "named").rglob("*.png")))
    assert {split: len(there) for split, there in files.items()} == {"train": 2, "val": 1, "test": 2}
    assert {file.parent.name for file in files["test"]} == {"val"}
    assert {file.parent.name for file in files["val"]} == {"train"}


def test_links_to_folders_are_followed_but_not_in_circles_and_hidden_files_are_left_out(folder, tmp_path):
    linked = made_folder(tmp_path / "linked")
    (linked / "train").symlink_to(folder / "part 0", target_is_directory=True)
    (linked / "test").symlink_to(folder / "part 1", target_is_directory=True)
    (folder / "part 1/around").symlink_to(linked, target_is_directory=True)
    (folder / "part 1/itself").symlink_to("itself")
    for hidden in (folder / "part 0/._00.png", made_folder(folder / "part 1/.thumbnails") / "01.png"):
        hidden.write_bytes(b"no picture")
    parts = (("test", 1), ("train", 0))
    assert _find(str(linked)) == [linked / s / f"{number:02}.png" for s, part in parts for number in range(part, 12, 2)]


def test_two_links_to_one_folder_are_two_folders(folder, tmp_path):
    linked = made_folder(tmp_path / "linked")
    for split, part in (("train", 0), ("val", 1), ("test", 1)):
        (linked / split).symlink_to(folder / f"part {part}", target_is_directory=True)
    images = Photographs(Line(length=3), root=str(linked), size=16).images
    assert (len(images.train.photos), len(images.val), len(images.test)) == (6, 24, 24)


def test_photographs_come_in_the_order_of_their_paths(tmp_path, monkeypatch):
    for name in ("b/2.png", "b.png", "b-1/1.png", "a/c/3.JPG", "a/c.png", "a b/0.png", "B/1.tif", "a/ä.bmp"):
        made_folder((tmp_path / name).parent)
        (tmp_path / name).touch()
    (tmp_path / "a/notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    for root in (str(tmp_path), "."):
        assert _find(root) == sorted(file for file in Path(root).rglob("*.*") if file.suffix != ".txt")


def test_photographs_that_are_too_small_are_left_out_or_refused(folder):
    Image.fromarray(picture(20, 20)).save(folder / "small.png")
    data = Photographs(Line(length=3), root=str(folder), size=40)
    assert len(data.images.train.photos) + len(data.images.val) // 4 + len(data.images.test) // 4 == 12
    with pytest.raises(UsageError, match=r"no photograph for .* is as large as a crop of 100 pixels"):
        _ = Photographs(Line(length=3), root=str(folder), size=100).images
    for number in range(2):
        Image.fromarray(picture(seed=number)).save(made_folder(folder / "few" / "train") / f"{number}.png")
    Image.fromarray(picture()).save(made_folder(folder / "few" / "other") / "3.png")
    with pytest.raises(UsageError, match="has no photograph for train"):
        _ = Photographs(Line(length=3), root=str(folder / "few"), size=16).images


def test_what_is_kept_in_memory_has_a_limit(folder):
    data = Photographs(Line(length=3), root=str(folder), size=16, cache_mb=0.03)
    photos = data.images.train.photos
    read = [photos[number] for number in range(len(photos))]
    assert len(photos._kept) == 2  # of 14,400 bytes and a little more each
    assert all(torch.equal(photos[number], photo) for number, photo in enumerate(read))


def test_without_a_folder_the_packages_photographs_are_taken():
    data = Photographs(Shake(length=9), size=64)
    assert data.image_shape == (3, 64, 64)
    assert len(data.images.train.photos) == 8
    assert "scikit-image" in data.origin
    assert data.images.test.float().std() > 20


@pytest.mark.parametrize("blur", [Shake(length=9), Line(length=4), RandomWalk(), Kernels(torch.ones(1, 7, 7))])
def test_no_light_gets_farther_than_a_blurs_reach(blur):
    side = 2 * blur.reach + 1
    point = torch.zeros(64, 1, side + 20, side + 20)
    point[..., side // 2 + 10, side // 2 + 10] = 1
    source = torch.Generator().manual_seed(0)
    blurred = blur.apply(point, blur.draw(64, (side + 20,) * 2, source), source)
    assert blurred[..., 10:-10, 10:-10].sum() == pytest.approx(64, abs=1e-3)


def test_the_margin_of_a_blur_that_turns_keeps_what_lies_outside_away():
    data = Photographs(Shake3D(length=4, rotation=10, padding="zeros"), size=48, crops=1, eval_crops=2)
    assert data.margin > data.blur.reach
    white = torch.full_like(data.images.val, 255)
    pairs = EvaluationPairs(white, data.blur, eval_seed=0, split="val", margin=data.margin)[:]
    assert pairs.blurred.shape[-2:] == (48, 48)
    torch.testing.assert_close(pairs.blurred, torch.ones_like(pairs.blurred), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 4),
        ("channels", 2),
        ("crops", 0),
        ("eval_crops", 0.5),
        ("cache_mb", -1),
        ("root", ""),
        ("root", 3),
        ("root", "~no_such_user/x"),
    ],
)
def test_a_refused_setting_is_named(key, value):
    with pytest.raises(ArgumentError, match=rf"^{key}="):
        Photographs(Line(length=3), **{key: value})


@pytest.mark.parametrize("root", ["nowhere", "."])
def test_a_folder_without_photographs_is_refused(tmp_path, root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^data\.root="):
        _ = Photographs(Line(length=3), root=root).images
