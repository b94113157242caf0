"""Photographs: the files of a folder, or those that come inside scikit-image and scikit-learn; random crops of them."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from deblur.blur import Blur
from deblur.data.ahead import ahead, spare_threads
from deblur.data.loaders import TrainingLoader
from deblur.data.module import DeblurDataModule, Images
from deblur.data.picture_files import SUFFIXES, read_photograph, sides_of
from deblur.errors import ArgumentError, UsageError, check_integer, check_number, check_path
from deblur.folders import files_in
from deblur.seeding import generator

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
_BATCHES_AHEAD = 2
_SHARE = 0.1  # of the photographs, for each of validation and test where the folder has no such subfolder

# (package, folder in it, file) of the offline photographs.
_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets/images")
_OFFLINE = {
    "train": [
        *((*_SKIMAGE, f"{name}.png") for name in ("astronaut", "brick", "camera", "coins", "grass", "gravel")),
        (*_SKIMAGE, "motorcycle_left.png"),
        (*_SKLEARN, "china.jpg"),
    ],
    "val": [(*_SKIMAGE, "chelsea.png"), (*_SKIMAGE, "rocket.jpg")],
    "test": [(*_SKIMAGE, "coffee.png"), (*_SKLEARN, "flower.jpg")],
}


_read: ContextVar[Callable[[Path, int], Tensor]] = ContextVar("read", default=read_photograph)


@contextmanager
def decoding_once(cache_mb: float = 1000.0) -> Iterator[None]:
    """Within the block, what one data set has decoded of the photographs the others need not decode again.

    Args:
        cache_mb: of decoded pictures to keep, in megabytes.
    """
    kept: dict[tuple[Path, int], Tensor] = {}
    room = cache_mb * 1e6

    def read(file: Path, channels: int) -> Tensor:
        nonlocal room
        photo = kept.get((file, channels))
        if photo is None:
            photo = read_photograph(file, channels)
            if photo.numel() <= room:
                room -= photo.numel()
                kept[file, channels] = photo
        return photo

    token = _read.set(read)
    try:
        yield
    finally:
        _read.reset(token)


class Photos:
    """Photographs by number, decoded when they are first asked for and kept as long as there is room.

    Several threads may ask at once.

    Args:
        files: of the photographs.
        channels: 1 for grey, 3 for colour.
        cache_mb: of decoded pictures to keep, in megabytes.
    """

    def __init__(self, files: Sequence[Path], channels: int, cache_mb: float) -> None:
        self.files, self.channels = list(files), channels
        self._room = cache_mb * 1e6
        self._kept: dict[int, Tensor] = {}
        self._keeping = Lock()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Tensor:
        photo = self._kept.get(number)
        if photo is None:
            photo = self.read(number)
            with self._keeping:
                if number not in self._kept and photo.numel() <= self._room:
                    self._room -= photo.numel()
                    self._kept[number] = photo
        return photo

    def fill(self) -> None:
        """Decode those that there is room to keep.

        Raises:
            UsageError: one of them cannot be read.
        """
        threads = spare_threads()
        with closing(ahead(self.__getitem__, range(len(self)), most=2 * threads, threads=threads)) as photos:
            for photo in photos:
                if photo.numel() > self._room:
                    return

    def read(self, number: int) -> Tensor:
        """The photograph, decoded now, or earlier in a block of `decoding_once`."""
        return _read.get()(self.files[number], self.channels)


class Place(NamedTuple):
    """Where a crop lies: in which photograph, how far down and right of what is possible, in [0, 1), and how it is
    turned, by so many quarters; from 4 on it is flipped, too."""

    photo: int
    down: float
    right: float
    turn: int


class Crops:
    """So many random square crops of each photograph; which ones they are is drawn anew each time.

    Args:
        photos: at least as large as a crop.
        size: side of a crop, pixels.
        each: crops of each photograph.
    """

    def __init__(self, photos: Photos, size: int, each: int) -> None:
        self.photos, self.size, self.each = photos, size, each

    def __len__(self) -> int:
        return len(self.photos) * self.each

    def take(self, chosen: Tensor, source: torch.Generator, *, turned: bool) -> Tensor:
        """Crops of the photographs that the numbers fall on, uint8 (B, C, size, size); see `places`."""
        return stacked([self.crop(place) for place in self.places(chosen, source, turned=turned)])

    def places(self, chosen: Tensor, source: torch.Generator, *, turned: bool) -> list[Place]:
        """Places in the photographs that the numbers fall on.

        Args:
            chosen: (B,), numbers below the length.
            source: draws them.
            turned: whether the crops are also flipped and turned by quarters at random.
        """
        draws = torch.rand(len(chosen), 2, generator=source)
        turns = torch.randint(8, (len(chosen),), generator=source).tolist() if turned else [0] * len(chosen)
        return [
            Place(number // self.each, down, right, turn)
            for number, (down, right), turn in zip(chosen.tolist(), draws.tolist(), turns, strict=True)
        ]

    def crop(self, place: Place) -> np.ndarray:
        """The crop there, uint8 (C, size, size)."""
        photo = self.photos[place.photo]
        height, width = photo.shape[1:]
        top, left = int(place.down * (height - self.size + 1)), int(place.right * (width - self.size + 1))
        crop = np.rot90(photo.numpy()[:, top : top + self.size, left : left + self.size], place.turn % 4, (1, 2))
        return np.ascontiguousarray(crop[..., ::-1] if place.turn >= 4 else crop)  # a view would keep all of the photo


def stacked(crops: Sequence[np.ndarray]) -> Tensor:
    """The crops as one batch."""
    return torch.from_numpy(np.stack(crops))


class CropLoader(TrainingLoader):
    """Shuffled batches of random crops, a function of (seed, rank, number of the batch since the start).

    The photographs of the next batches are decoded by threads while one is trained on.
    """

    images: Crops

    def _taken(self, chosen: Iterator[tuple[Tensor, int]]) -> Generator[Tensor]:
        places = (
            place
            for indices, number in chosen
            for place in self.images.places(indices, generator("crops", self.seed, self.rank, number), turned=True)
        )
        threads = spare_threads()
        most = max(_BATCHES_AHEAD * self.batch_size, threads)
        with closing(ahead(self.images.crop, places, most=most, threads=threads)) as crops:
            while batch := list(islice(crops, self.batch_size)):
                yield stacked(batch)


class Photographs(DeblurDataModule):
    """Random crops of photographs, flipped and turned at random; fixed crops for validation and test.

    The blur is applied to a larger crop, and only what it could not reach from outside is kept: nothing is made up
    beyond a border. A folder with subfolders `train`, `val` and `test` is split so; one with `train` and `val` alone is
    tested on `val`, as is usual with DIV2K. What is missing is a tenth of the others, chosen by `eval_seed`. It also
    chooses the fixed crops, but with room for what the blur reaches: for a longer one their places move a little.

    Args:
        blur: draws and applies the motions.
        root: folder of JPEG, PNG, WebP, TIFF or BMP files, its subfolders included (see `files_in`); None: twelve
            photographs that come inside scikit-image and scikit-learn.
        size: side of the images that the network gets, pixels.
        channels: 1 for grey, 3 for colour.
        crops: of each training photograph in an epoch.
        eval_crops: of each photograph of validation and test.
        cache_mb: decoded photographs that are kept in memory, megabytes.
        **common: `seed`, `batch_size`, `eval_seed`: see `DeblurDataModule`.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    _training_loader = CropLoader

    def __init__(
        self,
        blur: Blur,
        *,
        root: str | None = None,
        size: int = 128,
        channels: int = 3,
        crops: int = 16,
        eval_crops: int = 4,
        cache_mb: float = 2000.0,
        **common: int,
    ) -> None:
        super().__init__(blur, **common)
        if root is not None:
            check_path("root", root, "a folder, or null for the photographs that come with the packages")
        self.root = root
        self.size = check_integer("size", size, low=8)
        if isinstance(channels, bool) or channels not in (1, 3):
            raise ArgumentError("channels", channels, "1 for grey or 3 for colour")
        self.channels = int(channels)
        self.crops = check_integer("crops", crops, low=1)
        self.eval_crops = check_integer("eval_crops", eval_crops, low=1)
        self.cache_mb = check_number("cache_mb", cache_mb, low=0.0)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    @property
    def margin(self) -> int:
        return self.blur.margin((self.size, self.size))

    @property
    def origin(self) -> str:
        return f"crops of the photographs in {self.images.source}"

    def check_training_images(self) -> None:
        self.images.train.photos.fill()

    def load(self) -> Images:
        files = _offline_files() if self.root is None else self._split(_find(self.root))
        side = self.size + 2 * self.margin
        large = {split: [file for file in files[split] if min(sides_of(file)) >= side] for split in SPLITS}
        small = sum(len(files[split]) - len(large[split]) for split in SPLITS)
        where = "scikit-image and scikit-learn" if self.root is None else self.root
        for split in SPLITS:
            if not files[split]:
                raise UsageError(
                    f"data.root={where}: has no photograph for {split}; train, val and test need one each, and what a "
                    "folder lacks is taken from its others"
                )
            if not large[split]:
                raise UsageError(
                    f"data.root={where}: no photograph for {split} is as large as a crop of {self.size} pixels and the "
                    f"{self.margin} pixels around it that the blur reaches"
                )
        if small:
            log.warning("%d photographs smaller than %d pixels are left out", small, side)
        each = {"train": self.crops, "val": self.eval_crops, "test": self.eval_crops}
        crops = {
            split: Crops(Photos(large[split], self.channels, self.cache_mb), side, each[split]) for split in SPLITS
        }
        return Images(crops["train"], self._fixed(crops["val"], "val"), self._fixed(crops["test"], "test"), where)

    def _fixed(self, crops: Crops, split: str) -> Tensor:
        source = generator("evaluation crops", self.eval_seed, split)
        return crops.take(torch.arange(len(crops)), source, turned=False)

    def _split(self, files: list[Path]) -> dict[str, list[Path]]:
        root = Path(self.root).expanduser()
        named = {split: [f for f in files if f.relative_to(root).parts[0] == split] for split in SPLITS}
        if named["train"]:
            rest = named["train"]
        else:
            rest = [file for file in files if file not in {*named["val"], *named["test"]}]
        if named["train"] and not named["test"]:
            named["val"], named["test"] = [], named["val"]
        for split in SPLITS[1:]:
            if not named[split]:
                count = max(1, round(_SHARE * len(rest)))
                order = torch.randperm(len(rest), generator=generator("photographs", self.eval_seed, split)).tolist()
                chosen = {rest[number] for number in order[:count]}
                named[split] = [file for file in rest if file in chosen]
                rest = [file for file in rest if file not in chosen]
        return {**named, "train": rest}


def _find(root: str) -> list[Path]:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UsageError(f"data.root={root}: must be a folder with photographs")
    files = files_in(folder, SUFFIXES)
    if len(files) < len(SPLITS):
        raise UsageError(
            f"data.root={root}: has {len(files)} photographs ({', '.join(SUFFIXES)}); at least {len(SPLITS)} are needed"
        )
    return files


def _offline_files() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for split, places in _OFFLINE.items():
        found[split] = [_package_folder(package) / folder / name for package, folder, name in places]
    return found


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UsageError(
            f"data.root=null: the photographs inside {package} are not there; install it, or give a folder"
        )
    return Path(spec.origin).parent
