"""The LightningDataModule: sharp images in memory, batches on the device, blur there."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from deblur.blur import Blur
from deblur.data.loaders import EvaluationBatch, EvaluationLoader, TrainingBatch, TrainingLoader
from deblur.data.pairs import EvaluationPairs, Pairs, TrainingPairs
from deblur.errors import check_integer


@dataclass(frozen=True)
class Images:
    """The sharp images of a data set, uint8 (N, C, H, W) for each split, and where they came from.

    What trains may be anything that the data set's loader makes batches of.
    """

    train: Any
    val: Tensor
    test: Tensor
    source: str


_download_to: ContextVar[tuple[Any, ...]] = ContextVar("download_to", default=())  # roots; none: to any


@contextmanager
def downloading_only_to(root: Any) -> Iterator[None]:
    """Within the block, what is missing is downloaded to this root alone.

    The settings of a run, which somebody else may have made, must not decide where on this machine folders are made:
    the root is that of the command.
    """
    token = _download_to.set((root,))
    try:
        yield
    finally:
        _download_to.reset(token)


def may_download_to(root: Path) -> bool:
    """Whether what is missing may be downloaded to the root; see `downloading_only_to`."""
    allowed = [Path(os.path.expanduser(str(one))).absolute() for one in _download_to.get()]
    return not allowed or root.absolute() in allowed


class DeblurDataModule(LightningDataModule):
    """Pairs of sharp and blurred images for training, validation and test. Subclasses load the sharp images.

    Args:
        blur: draws and applies the motions.
        seed: order of the images and blur of training.
        batch_size: images of a batch, for each process.
        eval_seed: chooses the fixed pairs of validation and test.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    knows_psf = True  # of its pairs; if not, their motion is None
    _training_loader = TrainingLoader

    def __init__(self, blur: Blur, *, seed: int = 0, batch_size: int = 128, eval_seed: int = 0) -> None:
        super().__init__()
        self.blur, self.seed = blur, seed
        self.batch_size = check_integer("batch_size", batch_size, low=1)
        self.eval_seed = check_integer("eval_seed", eval_seed, low=0)
        self._images: Images | None = None
        self._evaluation: dict[str, EvaluationPairs] = {}
        self._training: Callable[[Tensor, int], Pairs] | None = None
        self._loader: TrainingLoader | None = None
        self._resume_at: dict[str, Any] | None = None

    @abstractmethod
    def load(self) -> Images:
        """The sharp images, read from their files.

        Raises:
            UsageError: they are not there, or damaged.
        """

    def __str__(self) -> str:
        return f"{type(self).__name__}(batch_size={self.batch_size}, eval_seed={self.eval_seed})"

    @property
    def images(self) -> Images:
        """The sharp images, loaded at the first use."""
        if self._images is None:
            self._images = self.load()
        return self._images

    def share_images(self, other: DeblurDataModule) -> None:
        """Take the images of another module, the same but for its blur, if they are the same here."""
        if self.margin == other.margin:
            self._images = other.images

    @property
    def origin(self) -> str:
        """What the images are, in words."""
        return self.images.source

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""
        return tuple(self.images.train.shape[1:])

    @property
    def margin(self) -> int:
        """Pixels around each image that are cut off once it is blurred: 0, what lies outside these images is known."""
        return 0

    @property
    def padding(self) -> str:
        """What is taken for the unknown beyond the borders of blurred images, for who deconvolves them.

        That of the blur; `reflect` where the borders were cut off, and the scene goes on beyond.
        """
        return "reflect" if self.margin else self.blur.padding

    def check_training_images(self) -> None:
        """Read what is kept of the training images: what is damaged is told before there is a run.

        Raises:
            UsageError: an image cannot be read.
        """

    def labels(self, split: str) -> Tensor | None:
        """The digit that each image of `train`, `val` or `test` shows, int64 (N,); None: the images are no digits.

        Raises:
            UsageError: they are digits, but the file of their labels is missing or damaged.
        """
        return None

    def evaluation_pairs(self, split: str) -> EvaluationPairs:
        """The fixed pairs of `val` or `test`."""
        if split not in self._evaluation:
            self._evaluation[split] = self.fixed_pairs(split)
        return self._evaluation[split]

    def forget_pairs(self) -> None:
        """Drop the fixed pairs that are kept: what is asked for again is made again, the same."""
        for pairs in self._evaluation.values():
            pairs.forget()

    def fixed_pairs(self, split: str, count: int | None = None) -> EvaluationPairs:
        """The pairs that never change of `val` or `test`, or of so many first images of it."""
        images = getattr(self.images, split)
        return EvaluationPairs(
            images, self.blur, eval_seed=self.eval_seed, split=split, margin=self.margin, count=count
        )

    def train_dataloader(self) -> TrainingLoader:
        loader, self._training = self._of_training(*self._place())
        self._loader = loader
        if self._resume_at is not None:
            loader.load_state_dict(self._resume_at)
        return loader

    def training_batch(
        self, number: int, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu"
    ) -> Pairs:
        """The pairs of a training batch, as they were trained on: to look at one that a message names.

        Args:
            number: of the batch since the start of the training.
            rank, world_size: which process of how many it was of.
            device: that trained; another kind of device draws another blur.
        """
        loader, pairs = self._of_training(rank, world_size)
        epoch, position = divmod(number, len(loader))
        loader.set_epoch(epoch)
        loader.load_state_dict({"epoch": epoch, "position": position, "batches": len(loader)})
        images, number = next(iter(loader))
        return pairs(images.to(device), number)

    def val_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("test")

    def state_dict(self) -> dict[str, Any]:
        """How far into which epoch the training is; Lightning saves it with each checkpoint."""
        if self._loader is None:
            return {}
        state = self._loader.state_dict()
        ended = self.trainer is not None and self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        return {**state, "position": state["batches"]} if ended else state  # all, where no more are to be trained on

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there. (Lightning restores loaders itself, but not those it made before it read the checkpoint.)"""
        self._resume_at = state or None
        if self._loader is not None and self._resume_at is not None:
            self._loader.load_state_dict(self._resume_at)

    def check_position(self, state: Mapping[str, Any], world_size: int) -> None:
        """Refuses a state from which so many processes cannot go on: told before there is a trainer.

        Raises:
            UsageError: it is within an epoch that was shared by another number of processes.
        """
        loader, _ = self._of_training(0, world_size)
        loader.load_state_dict(state)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, TrainingBatch):
            return TrainingBatch(batch.images.to(device, non_blocking=True), batch.number)
        if isinstance(batch, EvaluationBatch):
            sharp, blurred, motion = batch.pairs
            return Pairs(sharp.to(device, non_blocking=True), blurred.to(device, non_blocking=True), motion)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Blurs training batches, on the device that trains."""
        if isinstance(batch, TrainingBatch):
            return self._training(batch.images, batch.number)
        return batch

    def _training_pairs(self, rank: int, batch_size: int) -> Callable[[Tensor, int], Pairs]:
        """What makes the pairs of a training batch, from its images and its number."""
        return TrainingPairs(self.blur, seed=self.seed, rank=rank, batch_size=batch_size, margin=self.margin)

    def _of_training(self, rank: int, world_size: int) -> tuple[TrainingLoader, Callable[[Tensor, int], Pairs]]:
        loader = self._training_loader(
            self._training_images(), batch_size=self.batch_size, seed=self.seed, rank=rank, world_size=world_size
        )
        return loader, self._training_pairs(rank, loader.batch_size)

    def _training_images(self) -> Any:
        """Those of training, where the loader takes its batches from."""
        return self.images.train

    def _evaluation_loader(self, split: str) -> EvaluationLoader:
        rank, world_size = self._place()
        pairs = self.evaluation_pairs(split)
        return EvaluationLoader(pairs, batch_size=self.batch_size, rank=rank, world_size=world_size)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
