"""PSFs from the user's files: arrays, pictures, folders of pictures, and what is refused."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deblur.data.kernel_file import KernelFile
from deblur.errors import ArgumentError

RNG = np.random.default_rng(0)
ONE = RNG.integers(1, 256, (5, 5)).astype(np.uint8)
MANY = RNG.random((4, 7, 7))


def psfs_of(path: Path) -> np.ndarray:
    """(N, K, K): the PSFs as they are in the file."""
    return KernelFile(str(path), registration="given").psfs[:, 0].numpy()


def scaled(psfs: np.ndarray) -> np.ndarray:
    return psfs / psfs.sum(axis=(-2, -1), keepdims=True)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(*arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


def picture(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("one.npy", npy(ONE), ONE[None]),
        ("many.npy", npy(MANY), MANY),
        ("single_precision.npy", npy(MANY.astype(np.float32)), MANY),
        ("many.npz", npz(MANY, MANY[0]), np.concatenate([MANY, MANY[:1]])),
        ("one.png", picture(ONE), ONE[None]),
        ("deep.png", picture(ONE.astype(np.uint16) * 256), ONE[None]),
        ("UPPER.PNG", picture(ONE), ONE[None]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_psfs_are_those_in_the_file(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    np.testing.assert_allclose(psfs_of(tmp_path / name), scaled(expected.astype(np.float64)), atol=1e-6)


def test_colour_picture_counts_as_grey(tmp_path):
    Image.fromarray(np.repeat(ONE[..., None], 3, axis=-1)).save(tmp_path / "rgb.png")
    np.testing.assert_allclose(psfs_of(tmp_path / "rgb.png")[0], scaled(ONE), atol=1e-6)


def test_pictures_of_several_sizes_are_centred_on_the_largest(tmp_path):
    for name, side in (("a.png", 3), ("b.png", 7), ("c.bmp", 1)):
        Image.fromarray(np.full((side, side), 200, np.uint8)).save(tmp_path / name)
    (tmp_path / "README.txt").write_text("not a picture")
    psfs = psfs_of(tmp_path)
    expected = [np.pad(np.full((side, side), 1 / side**2), (7 - side) // 2) for side in (3, 7, 1)]
    np.testing.assert_allclose(psfs, expected, atol=1e-6)


def test_even_side_gets_one_more_row_and_column_of_zeros(tmp_path):
    np.save(tmp_path / "even.npy", np.ones((4, 4)))
    np.testing.assert_allclose(psfs_of(tmp_path / "even.npy")[0], np.pad(np.full((4, 4), 1 / 16), (0, 1)), atol=1e-7)
    centred = KernelFile(str(tmp_path / "even.npy")).psfs[0, 0]
    torch.testing.assert_close(centred, centred.flip(0, 1))  # the centroid lies on the central pixel
    assert centred.sum().item() == pytest.approx(1)


def test_oblong_psf_is_padded_to_a_square(tmp_path):
    np.save(tmp_path / "line.npy", np.ones((1, 5)))
    expected = np.zeros((5, 5))
    expected[2] = 0.2
    np.testing.assert_allclose(psfs_of(tmp_path / "line.npy")[0], expected, atol=1e-7)


def test_psf_is_centred_unless_it_shall_stay_as_given(tmp_path):
    off_centre = np.zeros((7, 7))
    off_centre[1, 5] = 1
    np.save(tmp_path / "psf.npy", off_centre)
    assert psfs_of(tmp_path / "psf.npy")[0][1, 5] == 1
    assert KernelFile(str(tmp_path / "psf.npy")).psfs.tolist() == [[[[1.0]]]]


def test_path_may_start_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "psf.npy", ONE)
    assert psfs_of(Path("~/psf.npy")).shape == (1, 5, 5)


class Hostile:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemError('the code in the file ran')",))


with_nan, negative = MANY.copy(), MANY.copy()
with_nan[1, 2, 3] = np.nan
negative[1, 2, 3] = -1e-6
infinite = np.where(np.isnan(with_nan), np.inf, with_nan)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("nan.npy", npy(with_nan)),
        ("infinite.npy", npy(infinite)),
        ("negative.npy", npy(negative)),
        ("zero.npy", npy(np.zeros((3, 3)))),
        ("one_of_two_zero.npy", npy(np.stack([np.ones((3, 3)), np.zeros((3, 3))]))),
        ("none.npy", npy(np.ones((0, 3, 3)))),
        ("no_pixel.npy", npy(np.ones((0, 0)))),
        ("one_dimension.npy", npy(np.ones(5))),
        ("four_dimensions.npy", npy(np.ones((1, 1, 3, 3)))),
        ("complex.npy", npy(np.ones((3, 3), complex))),
        ("text.npy", npy(np.array([["a", "b"]]))),
        ("bools.npy", npy(np.ones((3, 3), bool))),
        ("pickled.npy", npy(np.array([[Hostile()]], dtype=object))),
        ("pickle.npy", pickle.dumps(Hostile())),
        ("truncated.npy", npy(MANY)[:-9]),
        ("header_only.npy", npy(MANY)[:60]),
        ("text.npy", b"0.1 0.2 0.3"),
        ("empty.npz", npz()),
        ("black.png", picture(np.zeros((5, 5), np.uint8))),
        ("truncated.png", picture(ONE)[:40]),
        ("empty.png", b""),
        ("text.png", b"a picture"),
        ("large.png", picture(np.ones((3, 1025), np.uint8))),
        ("no_known_suffix.txt", b"0.1 0.2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_file_without_psfs_is_refused_by_its_path(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ArgumentError, match=r"^path=") as refused:
        KernelFile(str(file))
    assert refused.value.name == "path"
    assert refused.value.value == str(file)
    assert "\n" not in str(refused.value)


def text_in_npz() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("hello.txt", "no array")
    return file.getvalue()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def claiming(shape: str) -> bytes:
    """A .npy whose header claims another shape."""
    content = npy(np.ones((5, 5)))
    old = b"(5, 5), }"
    return content.replace(old + b" " * (len(shape) - 6), shape.encode() + b", }")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.npy", b""),
        ("truncated.npz", npz(MANY)[:-50]),
        ("damaged.npz", flipped(npz(MANY), 300)),
        ("text_member.npz", text_in_npz()),
        ("huge.npy", claiming("(99999999, 99999999)")),
        ("damaged_header.npy", npy(np.ones((5, 5))).replace(b"}", b" ")),
        ("overflow.npy", npy(np.full((3, 3), 1e308))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_array_is_refused_by_its_path(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ArgumentError) as refused:
        KernelFile(str(file))
    assert refused.value.name == "path"


def test_home_of_nobody_is_refused_by_its_path():
    with pytest.raises(ArgumentError):
        KernelFile("~nobody-of-this-name/psf.npy")


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_damaged_picture_gives_psfs_or_is_refused(tmp_path_factory, data):
    content = bytearray(picture(ONE))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.png"
    file.write_bytes(content)
    with contextlib.suppress(ArgumentError):
        psfs = KernelFile(str(file)).psfs
        torch.testing.assert_close(psfs.sum(dim=(1, 2, 3)), torch.ones(len(psfs)))


def test_missing_file_and_empty_folder_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="No such file"):
        KernelFile(str(tmp_path / "missing.npy"))
    with pytest.raises(ArgumentError, match="no picture in the folder"):
        KernelFile(str(tmp_path))


@pytest.mark.parametrize("path", ["", None, 7, ["a.npy"]])
def test_path_must_be_text(path):
    with pytest.raises(ArgumentError) as refused:
        KernelFile(path)
    assert refused.value.name == "path"


@pytest.mark.parametrize(("name", "value"), [("registration", "start"), ("padding", "edge"), ("noise", -1)])
def test_other_refused_arguments_keep_their_names(tmp_path, name, value):
    np.save(tmp_path / "psf.npy", ONE)
    with pytest.raises(ArgumentError) as refused:
        KernelFile(str(tmp_path / "psf.npy"), **{name: value})
    assert refused.value.name == name
