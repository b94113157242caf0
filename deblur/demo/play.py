"""What the page shows: an image blurred by a random motion, restored by a run's network, and how well."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deblur.blur import Blur, GaussianProcess, Line, RandomWalk, Shake
from deblur.blur.psf import crop_psf, psf_reach
from deblur.demo.drawing import SIDE
from deblur.errors import UsageError, check_choice, check_number, shown
from deblur.metrics import image_metrics
from deblur.restoration.picture import Picture
from deblur.restoration.tiles import restore_in_tiles
from deblur.training.restorer import Restorer
from deblur.training.settings import section

NONE = "none"  # the picture is blurred already
BLURS = ("shake", "line", "gaussian_process", "random_walk", NONE)
LONGEST, STRONGEST = 60.0, 0.2  # length in pixels, noise in [0, 1]
_STEPS = 10  # of a random walk, as in the benchmark
_MEAN_MOVE = (math.sqrt(2) + math.asinh(1)) / 3  # mean of |(u, v)| for u, v uniform in +-1
_SMALLEST_SIDE = 16  # of what a blur leaves of a picture, pixels
_TILE = 768  # the longest side of what a network gets at once, pixels


@dataclass
class Played:
    """What came out.

    Attributes:
        sharp: (C, H, W) in [0, 1], the part of the image that is blurred without anything made up beyond its borders;
            None if the image came blurred.
        blurred, restored: (C, H, W).
        trajectory: (T, 2) offsets (y, x) in pixels, or None.
        psf: (K, K), as large as it needs to be, or None.
        found: (K, K), the PSF that the network found, or None.
        before, after: `psnr` (dB) and `ssim` of blurred and restored; empty without a sharp image.
    """

    sharp: Tensor | None
    blurred: Tensor
    restored: Tensor
    trajectory: Tensor | None
    psf: Tensor | None
    found: Tensor | None
    before: dict[str, float]
    after: dict[str, float]


def make_blur(kind: str, length: float, noise: float) -> Blur | None:
    """The blur that was chosen; None for none.

    Args:
        kind: one of BLURS.
        length: of the path in pixels; of a random walk the mean one, 15 being the benchmark's.
        noise: standard deviation.

    Raises:
        UsageError: one of them is out of its range.
    """
    with section(""):
        check_choice("blur", kind, BLURS)
        if kind == NONE:
            return None
        length = check_number("length", length, low=0.0, high=LONGEST)
        noise = check_number("noise", noise, low=0.0, high=STRONGEST)
        if kind == "random_walk":
            return RandomWalk(_STEPS, length / (_STEPS * _MEAN_MOVE), noise=noise)
        return {"shake": Shake, "line": Line, "gaussian_process": GaussianProcess}[kind](length, noise=noise)


def play(
    image: Tensor,
    blur: Blur | None,
    network: Restorer,
    channels: int,
    source: torch.Generator,
    device: torch.device | str = "cpu",
) -> Played:
    """The image blurred and restored: a function of its arguments and the generator's state alone.

    Args:
        image: (1 or 3, H, W) in [0, 1].
        blur: None if the image is blurred already.
        network: of a run, on the device.
        channels: that the network takes.
        source: draws motion and noise.
        device: of the network.

    Raises:
        UsageError: the motion is too long for the image, or the network does not take it.
    """
    if blur is None:
        if network.takes_psf:
            raise UsageError("blur=none: this run is given the PSF, and that of a blurred picture is not known")
        restored, found = _restored(image, network, channels, None, device)
        return Played(None, image, restored, None, None, found, {}, {})
    with section(""):
        motion = blur.draw(1, tuple(image.shape[1:]), source)
    psf = crop_psf(motion.psf, 2 * psf_reach(motion.psf) + 1)
    sharp, blurred = image, blur.apply(image[None], motion, source)[0]
    if not is_digit(image):  # black goes on beyond a digit's borders; beyond a photograph's nobody knows what does
        sharp, blurred = _inside(sharp, psf.shape[-1] // 2), _inside(blurred, psf.shape[-1] // 2)
    restored, found = _restored(blurred, network, channels, psf if network.takes_psf else None, device)
    before, after = (_judged(made, sharp) for made in (blurred, restored))
    return Played(sharp, blurred, restored, motion.trajectory[0], psf[0, 0], found, before, after)


def is_digit(image: Tensor) -> bool:
    """Whether an image, (C, H, W), has the shape of MNIST's digits."""
    return tuple(image.shape) == (1, SIDE, SIDE)


def _restored(
    blurred: Tensor, network: Restorer, channels: int, psf: Tensor | None, device: torch.device | str
) -> tuple[Tensor, Tensor | None]:
    """The restored image, and the PSF that the network found if it finds one of the whole image."""
    found: list[Tensor | None] = []

    def on_tiles(tiles: Tensor) -> Tensor:
        images, psfs = network.with_psf(tiles, None if psf is None else psf.to(device).expand(len(tiles), -1, -1, -1))
        found.append(psfs)
        return images

    def through(image: Tensor) -> Tensor:
        return restore_in_tiles(on_tiles, image.to(device), tile=_TILE)

    with torch.inference_mode():
        made = _taken(lambda: Picture(blurred, None, False, {}).through(through, channels))
    whole = found[0] if len(found) == 1 and max(blurred.shape[1:]) <= _TILE else None
    return made, None if whole is None else crop_psf(whole, 2 * psf_reach(whole, 0.02) + 1)[0, 0].cpu()


def _taken(run: Callable[[], Tensor]) -> Tensor:
    try:
        return run()
    except (RuntimeError, ValueError) as error:  # of networks of one size, for one
        raise UsageError(f"this run does not take the picture: {shown(error)}") from error


def _judged(made: Tensor, sharp: Tensor) -> dict[str, float]:
    metrics = image_metrics(made[None], sharp[None])
    return {name: float(metrics[name]) for name in ("psnr", "ssim")}


def _inside(image: Tensor, margin: int) -> Tensor:
    """The part of an image, (C, H, W), that lies farther than the margin from its borders."""
    height, width = image.shape[1:]
    if min(height, width) - 2 * margin < _SMALLEST_SIDE:
        raise UsageError(f"length: such motions leave less than {_SMALLEST_SIDE} pixels of {height}x{width}")
    return image[:, margin : height - margin, margin : width - margin]
