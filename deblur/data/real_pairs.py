"""Pairs that a camera has taken: crops of blurred pictures and of the sharp ones that belong to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from deblur.blur import Blur, NoBlur
from deblur.data.module import Images
from deblur.data.pair_layouts import Pair, find_pairs
from deblur.data.pairs import EvaluationPairs, Pairs, to_float
from deblur.data.photographs import SPLITS, Crops, Photographs, Photos
from deblur.data.picture_files import read_photograph, sides_of
from deblur.errors import ArgumentError, UsageError, check_path

log = logging.getLogger(__name__)

_WHOLE = UsageError("data.size=null: whole pictures are to evaluate on; must be the side of the crops to train on")


class PairPhotos(Photos):
    """Pairs of photographs by number, uint8 (2 * channels, H, W): the sharp one above the blurred one."""

    def __init__(self, pairs: Sequence[Pair], channels: int, cache_mb: float) -> None:
        super().__init__([pair.sharp for pair in pairs], channels, cache_mb)
        self.pairs = list(pairs)

    def read(self, number: int) -> Tensor:
        pair = self.pairs[number]
        sharp, blurred = (read_photograph(file, self.channels) for file in (pair.sharp, pair.blurred))
        if sharp.shape != blurred.shape:
            _refuse_sizes(pair, tuple(sharp.shape[1:]), tuple(blurred.shape[1:]))
        return torch.from_numpy(np.concatenate([sharp.numpy(), blurred.numpy()]))  # torch would wake a team of threads


class RecordedPairs(EvaluationPairs):
    """Evaluation pairs that are there already: uint8 images (N, 2C, H, W), the sharp one above the blurred one."""

    def __getitem__(self, span: slice) -> Pairs:
        start, stop, _ = span.indices(len(self))
        return as_pairs(self.images[start:stop], 0)


class WholePairs(EvaluationPairs):
    """Evaluation pairs of whole pictures, read from their files whenever they are asked for, by `PairPhotos`."""

    alone = True

    def __getitem__(self, span: slice) -> Pairs:
        """The pairs, on the CPU.

        Raises:
            UsageError: they differ in size, or one cannot be read.
        """
        pictures = [self.images[number] for number in range(len(self))[span]]
        if len({picture.shape for picture in pictures}) > 1:
            raise UsageError("data.size=null: the pictures differ in size, and several are asked for at once")
        return as_pairs(torch.stack(pictures), 0)


def as_pairs(images: Tensor, number: int) -> Pairs:
    """The pairs of uint8 images (B, 2C, H, W), the sharp one above the blurred one; the batch's number is not used."""
    sharp, blurred = to_float(images).chunk(2, dim=1)
    return Pairs(sharp.contiguous(), blurred.contiguous(), None)


class NoCrops(Crops):
    """In the place of training crops where there are none: the data can be evaluated on, and training is refused.

    Args:
        error: why there are none.
    """

    def __init__(self, error: UsageError) -> None:
        self.error = error

    def __len__(self) -> int:
        raise self.error

    @property
    def photos(self) -> Photos:
        raise self.error


class RealPairs(Photographs):
    """Crops of pairs that a camera has taken: the same place of both, for training flipped and turned alike.

    Their blur is what it is: nobody knows its PSF, and no other is applied. See `find_pairs` for the layouts of the
    folder and for what becomes validation and test. These are judged on crops too, so many of each pair; without a
    `size` on the whole pictures, as papers do, which may then differ in size.

    Args:
        blur: `NoBlur` without noise and camera.
        root: folder of the pairs.
        variant: see `find_pairs`.
        size: side of the crops, pixels; None: whole pictures, to evaluate on, not to train on.
        channels, crops, eval_crops, cache_mb: see `Photographs`.
        **common: `seed`, `batch_size`, `eval_seed`: see `DeblurDataModule`.

    Raises:
        ArgumentError: an argument is out of its range.
        UsageError: the blur is another.
    """

    knows_psf = False

    def __init__(
        self,
        blur: Blur,
        *,
        root: str | None = None,
        variant: str | None = None,
        size: int | None = 128,
        channels: int = 3,
        crops: int = 16,
        eval_crops: int = 4,
        cache_mb: float = 2000.0,
        **common: int,
    ) -> None:
        sizes = {
            "size": 128 if size is None else size,
            "channels": channels,
            "crops": crops,
            "eval_crops": eval_crops,
            "cache_mb": cache_mb,
        }
        super().__init__(blur, root=root, **sizes, **common)
        if type(blur) is not NoBlur or blur.noise[1] > 0:
            raise UsageError("blur: real pairs are blurred already; no blur but `none`, without noise, goes with them")
        if blur.camera is not None:
            raise UsageError("blur.camera: a camera has taken real pairs already; blur/camera=off goes with them")
        self.folder = check_path("root", root, "a folder with pairs of blurred and sharp pictures")
        if variant is not None and (not isinstance(variant, str) or not variant):
            raise ArgumentError("variant", variant, "the name of a folder, J or R, or null")
        self.variant, self.whole = variant, size is None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images; of whole pictures the smallest sides of those for test."""
        if not self.whole:
            return super().image_shape
        width, height = (min(sides) for sides in zip(*map(_common_sides, self.images.test.pairs), strict=True))
        return self.channels, height, width

    @property
    def origin(self) -> str:
        return f"{'whole pictures' if self.whole else 'crops'} of the pairs in {self.images.source}"

    def load(self) -> Images:
        if not self.folder.is_dir():
            raise UsageError(f"data.root={self.root}: must be a folder with pairs of blurred and sharp pictures")
        found = find_pairs(self.folder, self.variant, self.eval_seed)
        if self.whole:
            photos = {split: PairPhotos(found[split], self.channels, cache_mb=0.0) for split in SPLITS[1:]}
            for pair in (*photos["val"].pairs, *photos["test"].pairs):
                _common_sides(pair)
            return Images(NoCrops(_WHOLE), photos["val"], photos["test"], str(self.root))
        each = {"train": self.crops, "val": self.eval_crops, "test": self.eval_crops}
        crops, small = {}, set()
        for split in SPLITS:
            large = [pair for pair in found[split] if min(_common_sides(pair)) >= self.size]
            small |= {*found[split]} - {*large}
            if found[split] and not large:
                raise UsageError(
                    f"data.root={self.root}: no pair for {split} is as large as a crop, {self.size} pixels"
                )
            if large:
                crops[split] = Crops(PairPhotos(large, self.channels, self.cache_mb), self.size, each[split])
        if small:
            log.warning("%d pairs smaller than %d pixels are left out", len(small), self.size)
        none = torch.empty(0, 2 * self.channels, self.size, self.size, dtype=torch.uint8)
        val, test = (self._fixed(crops[split], split) if split in crops else none for split in SPLITS[1:])
        return Images(crops.get("train", NoCrops(_lacking(self.root, "train"))), val, test, str(self.root))

    def fixed_pairs(self, split: str, count: int | None = None) -> EvaluationPairs:
        images = getattr(self.images, split)
        if len(images) == 0:
            raise _lacking(self.root, split)
        kind = WholePairs if self.whole else RecordedPairs
        return kind(images, self.blur, eval_seed=self.eval_seed, split=split, count=count)

    def _training_pairs(self, rank: int, batch_size: int) -> Callable[[Tensor, int], Pairs]:
        return as_pairs


def _lacking(root: str, split: str) -> UsageError:
    allowed = f"a folder (of RealBlur a list) {split}, or none of {', '.join(SPLITS[:-1])} and {SPLITS[-1]}"
    return UsageError(f"data.root={root}: has no pairs for {split}; must have {allowed}")


def _common_sides(pair: Pair) -> tuple[int, int]:
    sharp, blurred = sides_of(pair.sharp), sides_of(pair.blurred)
    if sharp != blurred:
        _refuse_sizes(pair, sharp[::-1], blurred[::-1])
    return sharp


def _refuse_sizes(pair: Pair, sharp: tuple[int, int], blurred: tuple[int, int]) -> None:
    sizes = ["x".join(map(str, size)) for size in (blurred, sharp)]
    raise UsageError(f"{pair.blurred}: is of {sizes[0]} pixels, its sharp picture {pair.sharp} of {sizes[1]}")
