"""The reader of IDX files: what is written is read, what is damaged is refused."""

from __future__ import annotations

import contextlib
import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deblur.data.idx import read_idx


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def read(content: bytes, name: str = "images-idx3-ubyte") -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        return read_idx(file)


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
WHOLE = idx(IMAGES)


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)), st.booleans())
@settings(deadline=None, max_examples=80)
def test_what_is_written_is_read(array, compressed):
    content = gzip.compress(idx(array)) if compressed else idx(array)
    images = read(content, "images.gz" if compressed else "images")
    assert images.dtype == torch.uint8
    np.testing.assert_array_equal(images.numpy(), array)


def test_tensor_can_be_changed_without_a_warning(recwarn):
    read(WHOLE).add_(1)
    assert not recwarn.list


@given(st.integers(0, len(WHOLE) - 1))
@settings(deadline=None, max_examples=40)
def test_truncated_file_is_refused(length):
    with pytest.raises(ValueError, match=r"no IDX file|ends within its header|shorter than its header says"):
        read(WHOLE[:length])


@given(st.binary(min_size=1, max_size=20))
@settings(deadline=None, max_examples=20)
def test_longer_file_is_refused(tail):
    with pytest.raises(ValueError, match="longer than its header says"):
        read(WHOLE + tail)


@pytest.mark.parametrize(
    "magic",
    [b"", b"\x89PNG", b"\0\0\x08\x00", b"\0\0\x08\x05", b"\0\0\x0d\x03", b"\x03\x08\0\0", b"\x1f\x8b\x08\x00"],
    ids=["empty", "png", "no_dimensions", "five_dimensions", "floats", "reversed", "gzip_without_its_suffix"],
)
def test_wrong_magic_is_refused(magic):
    with pytest.raises(ValueError, match="is no IDX file of unsigned bytes"):
        read(magic + WHOLE[4:])


@pytest.mark.parametrize("compressed", [False, True])
def test_header_that_claims_gigabytes_is_refused(compressed):
    content = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**20, 2**20) + bytes(100)
    with pytest.raises(ValueError, match=r"claims \d{22,} bytes"):
        read(gzip.compress(content) if compressed else content, "x.gz" if compressed else "x")


def test_compressed_file_that_unpacks_to_more_than_its_header_says_is_refused():
    with pytest.raises(ValueError, match="longer"):
        read(gzip.compress(WHOLE + bytes(50_000_000)), "x.gz")


@given(st.integers(0, len(gzip.compress(WHOLE)) - 9))
@settings(deadline=None, max_examples=40)
def test_truncated_compressed_file_is_refused(length):
    with pytest.raises(ValueError, match=r"is damaged|no IDX file|ends within|shorter"):
        read(gzip.compress(WHOLE)[:length], "x.gz")


def test_plain_file_with_the_suffix_of_a_compressed_one_is_refused():
    with pytest.raises(ValueError, match="is damaged"):
        read(WHOLE, "x.gz")


@given(st.integers(10, 200), st.integers(1, 255), st.booleans())
@settings(deadline=None, max_examples=100)
def test_damaged_file_gives_an_array_or_a_value_error(place, flip, compressed):
    content = bytearray(gzip.compress(idx(IMAGES), mtime=0) if compressed else WHOLE)
    content[place % len(content)] ^= flip
    with contextlib.suppress(ValueError):
        images = read(bytes(content), "x.gz" if compressed else "x")
        assert images.dtype == torch.uint8
        assert images.numel() == IMAGES.size


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")
