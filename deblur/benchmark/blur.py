"""Random motion blur, from draw to blurred image, against other libraries and against what is possible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import count

import numpy as np
import torch
from scipy.signal import convolve2d
from torch import Tensor

from deblur.benchmark.bench import Bench, Row, Side, version
from deblur.benchmark.report import PEERS
from deblur.blur import Shake, convolve
from deblur.data.pairs import TrainingPairs
from deblur.seeding import generator

BLOCK = 16  # batches whose motions training draws at once: only whole blocks are timed, each with its draw
OURS, TRAINING = "draw, PSF, apply", "the same as in training"
COPY, READY = "copy of the images", "convolution with ready PSFs"


def run(bench: Bench) -> Iterator[Row]:
    """Digits at three lengths, colour images at two."""
    for length in (5, 9, 15):
        yield from _compare(bench, length, batch=256, shape=(1, 28, 28), targets=_SMALL if length == 9 else {})
    for length in (15, 31):
        yield from _compare(bench, length, batch=8, shape=(3, 256, 256), targets=_LARGE if length == 31 else {})


_SMALL = {"deepinv": 20.0, "kornia": 1.2, "albumentations": 15.0, READY: 0.25}
_LARGE = {"deepinv": 2.0}


def _compare(
    bench: Bench, length: int, *, batch: int, shape: tuple[int, int, int], targets: Mapping[str, float]
) -> Iterator[Row]:
    what = f"blur {batch}x{'x'.join(map(str, shape))}, shake {length}"
    images = torch.randint(256, (batch, *shape), dtype=torch.uint8, generator=generator("images")).to(bench.device)
    sharp = images / 255
    sides = [*_ours(bench, sharp, images, length)]
    with bench.peer("deepinv"):
        sides += _deepinv(bench, sharp, length)
    with bench.peer("kornia"):
        sides.append(_kornia(bench, sharp, length))
    with bench.peer("albumentations"):
        sides.append(_albumentations(images, length))
    rates = bench.measure(what, sides)
    alone, in_training = rates.pop(OURS), rates.pop(TRAINING, None)
    ahead = f"{what}, drawn by {BLOCK * batch:,} as in training"
    if in_training is not None:
        yield Row(ahead, f"drawn by {batch}", in_training, alone)
    for name, theirs in rates.items():
        target = next((value for key, value in targets.items() if name.startswith(key)), None)
        if in_training is not None and name.startswith(PEERS):  # what a user of the framework gets
            yield Row(ahead, name, in_training, theirs, target)
            target = None
        yield Row(what, name, alone, theirs, target)


def _ours(bench: Bench, sharp: Tensor, images: Tensor, length: int) -> Iterator[Side]:
    device, size = bench.device, tuple(sharp.shape[-2:])
    blur, source, batch = Shake(length=length), generator("ours", device=device), len(sharp)
    training, numbers = TrainingPairs(blur, seed=0, rank=0, batch_size=batch), count()

    def draw_and_apply() -> tuple[Tensor, Tensor]:
        motion = blur.draw(batch, size, source)
        return motion.psf, blur.apply(sharp, motion)

    def in_training() -> tuple[Tensor, Tensor]:
        pairs = training(images, next(numbers))
        return pairs.motion.psf, pairs.blurred

    for call in (draw_and_apply, in_training):
        check_blurred(call.__name__, sharp, *call())
    for _ in range(BLOCK - 1):
        in_training()  # the next call begins a block
    psf = blur.draw(batch, size, source).psf
    yield Side(OURS, draw_and_apply, batch)
    if max(size) < 64:  # a block is 512 batches of the large images: minutes for each measurement
        yield Side(TRAINING, in_training, batch, multiple=BLOCK)
    yield Side(READY, lambda: convolve(sharp, psf), batch)
    yield Side(COPY, sharp.clone, batch)


def _deepinv(bench: Bench, sharp: Tensor, length: int) -> Iterator[Side]:
    from deepinv.physics import Blur, BlurFFT
    from deepinv.physics.generator import MotionBlurGenerator

    device, batch = bench.device, len(sharp)
    size = (2 * math.ceil(length / 2) + 1,) * 2
    source = MotionBlurGenerator(size, rng=generator("theirs", device=device), device=device)
    direct = Blur(padding="constant", device=device)
    fourier = BlurFFT(img_size=tuple(sharp.shape[1:]), device=device)

    def by(physics: torch.nn.Module) -> Tensor:
        return physics(sharp, filter=source.step(batch_size=batch)["filter"])

    yield Side(f"{version('deepinv')}, MotionBlurGenerator and Blur", lambda: by(direct), batch)
    yield Side(f"{version('deepinv')}, MotionBlurGenerator and BlurFFT", lambda: by(fourier), batch)


def _kornia(bench: Bench, sharp: Tensor, length: int) -> Side:
    from kornia.filters import motion_blur

    source, batch = generator("theirs", device=bench.device), len(sharp)

    def call() -> Tensor:
        angle, direction = torch.rand(2, batch, generator=source, device=bench.device)
        return motion_blur(sharp, length, angle * 360, direction * 2 - 1, border_type="constant", mode="bilinear")

    return Side(f"{version('kornia')}, motion_blur: straight lines", call, batch)


def _albumentations(images: Tensor, length: int) -> Side:
    from albumentations import MotionBlur

    transform = MotionBlur(blur_limit=(length, length), p=1)
    arrays = list(images.permute(0, 2, 3, 1).contiguous().cpu().numpy())

    def call() -> list[np.ndarray]:
        return [transform(image=image)["image"] for image in arrays]

    return Side(f"{version('albumentations')}, MotionBlur: straight lines, uint8", call, len(arrays))


def check_blurred(name: str, sharp: Tensor, psf: Tensor, blurred: Tensor) -> None:
    """Refuses blurred images that are not the direct convolution of each with a PSF of its own, zeros outside."""
    few = slice(0, 16 if max(sharp.shape[-2:]) < 64 else 1)  # the direct convolution of large images takes long
    error = 0.0
    for x, k, y in zip(sharp[few].cpu(), psf[few].cpu(), blurred[few].cpu(), strict=True):
        expected = np.stack([convolve2d(channel, k[0], mode="same") for channel in x])
        error = max(error, float(np.abs(y.numpy() - expected).max()))
    if not error < (1e-2 if sharp.is_cuda else 1e-5) or len(psf.unique(dim=0)) < len(psf):  # a GPU may round to TF32
        raise AssertionError(f"{name}: images not blurred each with its own PSF (largest error {error:.1e})")
