"""Pairs of sharp and blurred images: fresh ones for training, fixed ones for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from deblur.blur import Blur, Motion
from deblur.seeding import generator

_EVALUATION_BLOCK = 1024
_TRAINING_BLOCK = 4096  # motions drawn at once: a trajectory's sequential steps cost the same for one as for thousands


class Pairs(NamedTuple):
    """Sharp images and what the camera saw of them, floats (B, C, H, W) in [0, 1], and the motions between.

    Nobody knows the motion of real pairs: it is None.
    """

    sharp: Tensor
    blurred: Tensor
    motion: Motion | None


def cut(pairs: Pairs, inside: slice) -> Pairs:
    """The pairs of this span."""
    motion = None if pairs.motion is None else pairs.motion[inside]
    return Pairs(pairs.sharp[inside], pairs.blurred[inside], motion)


def join(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of one or more parts as those of one."""
    first = parts[0].motion
    motion = None if first is None else type(first).cat([part.motion for part in parts])
    return Pairs(torch.cat([part.sharp for part in parts]), torch.cat([part.blurred for part in parts]), motion)


def make_pairs(blur: Blur, images: Tensor, motion: Motion, source: torch.Generator, margin: int = 0) -> Pairs:
    """The pairs of uint8 images (B, C, H, W) and their motions, without the outermost `margin` pixels.

    Args:
        blur: applies the motions.
        images: with the margin: with `blur.margin` of it, nothing that is made up beyond the frame gets into the pairs.
        motion: of each image.
        source: of the sensor noise.
        margin: pixels.
    """
    sharp = to_float(images)
    blurred = blur.apply(sharp, motion, source)
    inside = slice(margin, -margin or None)
    return Pairs(sharp[..., inside, inside], blurred[..., inside, inside], motion)


def to_float(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]."""
    return images.to(torch.float32).div_(255)


class TrainingPairs:
    """Fresh blur for every training batch, a function of (seed, rank, number of the batch since the start).

    Args:
        blur: what draws and applies the motions.
        seed, rank: of the run and the process.
        batch_size: images of a full batch.
        margin: pixels around each image that are cut off once it is blurred.
    """

    def __init__(self, blur: Blur, *, seed: int, rank: int, batch_size: int, margin: int = 0) -> None:
        self.blur, self.seed, self.rank, self.batch_size, self.margin = blur, seed, rank, batch_size, margin
        self._batches = max(1, _TRAINING_BLOCK // batch_size)
        self._drawn: tuple[tuple[int, torch.device], Motion] | None = None

    def __call__(self, images: Tensor, number: int) -> Pairs:
        """The pairs for batch `number` of uint8 images, on the images' device."""
        block, place = divmod(number, self._batches)
        if self._drawn is None or self._drawn[0] != (block, images.device):
            source = generator("training blur", self.seed, self.rank, block, device=images.device)
            count = self._batches * self.batch_size
            self._drawn = ((block, images.device), self.blur.draw(count, tuple(images.shape[-2:]), source))
        start = place * self.batch_size
        motion = self._drawn[1][start : start + len(images)]
        source = generator("training noise", self.seed, self.rank, number, device=images.device)
        return make_pairs(self.blur, images, motion, source, self.margin)


class EvaluationPairs:
    """Pairs that never change: a function of (eval_seed, split) and the images alone.

    They are made on the CPU in whole blocks of 1,024 image indices, each from its own generator, then indexed: the
    same pairs whatever the batch size, device, number of processes or epoch.

    Args:
        images: uint8 (N, C, H, W).
        blur: what draws and applies the motions.
        eval_seed: chooses the pairs.
        split: `val` or `test`.
        margin: pixels around each image that are cut off once it is blurred.
        count: of the first images there are pairs; None: of all.

    Attributes:
        alone: whether they must be taken one by one, as they are large and may differ in size.
    """

    alone = False

    def __init__(
        self,
        images: Tensor,
        blur: Blur,
        *,
        eval_seed: int,
        split: str,
        margin: int = 0,
        count: int | None = None,
    ) -> None:
        self.images, self.blur, self.eval_seed, self.split, self.margin = images, blur, eval_seed, split, margin
        self.count = len(images) if count is None else min(count, len(images))
        self._block = lru_cache(maxsize=32)(self._make_block)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, span: slice) -> Pairs:
        """The pairs of consecutive images, on the CPU."""
        start, stop, _ = span.indices(len(self))
        first, last = start // _EVALUATION_BLOCK, max(start, stop - 1) // _EVALUATION_BLOCK
        parts = []
        for number in range(first, last + 1):
            offset = number * _EVALUATION_BLOCK
            inside = slice(max(start - offset, 0), stop - offset)
            parts.append(cut(self._block(number), inside))
        return parts[0] if len(parts) == 1 else join(parts)

    def forget(self) -> None:
        """Drop the pairs that are kept: what is asked for again is made again, the same."""
        self._block.cache_clear()

    def _make_block(self, number: int) -> Pairs:
        source = generator("evaluation pairs", self.eval_seed, self.split, number)
        motion = self.blur.draw(_EVALUATION_BLOCK, tuple(self.images.shape[-2:]), source)
        images = self.images[number * _EVALUATION_BLOCK : (number + 1) * _EVALUATION_BLOCK]
        return make_pairs(self.blur, images, motion[: len(images)], source, self.margin)
