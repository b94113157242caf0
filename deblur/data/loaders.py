"""Loaders of whole batches: the images lie in memory as one tensor, a batch is one indexing operation."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deblur.data.pairs import EvaluationPairs, Pairs
from deblur.errors import UsageError
from deblur.seeding import generator


class TrainingBatch(NamedTuple):
    """Sharp uint8 images (B, C, H, W) and the number of their batch since the start of training."""

    images: Tensor
    number: int


class TrainingLoader:
    """Shuffled batches of one process's share of the images.

    The order is a function of (seed, epoch). A last batch that would be smaller than the others is left out; the next
    epoch's order is another. Its state says how far into which epoch it is, so that training can be resumed between
    any two batches (Lightning saves and restores it with the checkpoint).

    Args:
        images: uint8 (N, C, H, W), the whole split.
        batch_size: images of a batch, for each process.
        seed: chooses the orders.
        rank, world_size: which process of how many this is.
    """

    def __init__(self, images: Tensor, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.images, self.seed, self.rank, self.world_size = images, seed, rank, world_size
        self.batch_size = min(batch_size, len(images) // world_size)
        if self.batch_size == 0:
            raise UsageError(f"data: {len(images)} training images for {world_size} processes")
        self.epoch = 0
        self._position = 0
        self._resume_at: dict[str, int] | None = None

    @property
    def sampler(self) -> TrainingLoader:
        """What Lightning tells the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[TrainingBatch]:
        # A generator starts at its first `next`: by then Lightning has told the epoch and loaded the state.
        order = torch.randperm(len(self.images), generator=generator("order", self.seed, self.epoch))
        share = order[self.rank :: self.world_size]
        self._position = 0
        if self._resume_at is not None and self._resume_at["epoch"] == self.epoch:
            self._position = self._resume_at["position"]
        self._resume_at = None
        places = range(self._position, len(self))
        first, size = self.epoch * len(self), self.batch_size
        chosen = ((share[place * size : (place + 1) * size], first + place) for place in places)
        with closing(self._taken(chosen)) as taken:
            for place, images in zip(places, taken, strict=True):
                self._position = place + 1  # of those delivered: what was read ahead does not count
                yield TrainingBatch(images, first + place)

    def _taken(self, chosen: Iterator[tuple[Tensor, int]]) -> Generator[Tensor]:
        """The images of each batch, given the indices of its images and its number."""
        return (self.images[indices.to(self.images.device)] for indices, _ in chosen)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were delivered."""
        return self._resume_at or {"epoch": self.epoch, "position": self._position, "batches": len(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there.

        Raises:
            UsageError: it is within an epoch that was shared by another number of processes.
        """
        self._resume_at = {name: int(state[name]) for name in ("epoch", "position", "batches")}
        batches = self._resume_at["batches"]
        if batches != len(self) and 0 < self._resume_at["position"] < batches:
            raise UsageError(
                f"trainer.devices: the run stopped within an epoch of {batches} batches for each process, here it has "
                f"{len(self)}; resume it with as many processes as before"
            )


class EvaluationBatch:
    """Pairs as they are: Lightning would round those that it finds in a batch to the precision of the network."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs


class EvaluationLoader:
    """Batches of one process's share of fixed pairs, in order; over all processes every pair comes once.

    Every process gets the same number of batches, so that none waits for the others for ever, and none an empty one.

    Args:
        pairs: the pairs of the whole split.
        batch_size: most pairs of a batch; if 1, a process with a pair more than another has two in its first.
        rank, world_size: which process of how many this is.
    """

    def __init__(self, pairs: EvaluationPairs, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        count = len(pairs)
        if count < world_size:
            raise UsageError(f"data: {count} images of split {pairs.split} for {world_size} processes")
        self.pairs = pairs
        self._bounds = (count * rank // world_size, count * (rank + 1) // world_size)
        smallest, largest = count // world_size, -(-count // world_size)
        self._batches = min(-(-largest // batch_size), smallest)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[EvaluationBatch]:
        start, stop = self._bounds
        size, more = divmod(stop - start, len(self))
        edges = [start + size * i + min(i, more) for i in range(len(self) + 1)]  # the larger batches come first
        for low, high in pairwise(edges):
            yield EvaluationBatch(self.pairs[low:high])
