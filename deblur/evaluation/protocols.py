"""What a network is evaluated on: its own test pairs, grids of blurs, the public benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deblur.blur import Blur
from deblur.data.module import DeblurDataModule
from deblur.data.pairs import EvaluationPairs, Pairs, to_float
from deblur.errors import ArgumentError, UsageError, check_choice, check_integer, check_number
from deblur.seeding import generator

BlurConfig = Mapping[str, Any]
_LENGTHY = ("shake", "line", "gaussian_process")  # the blurs that have a length


@dataclass(frozen=True)
class Condition:
    """Pairs that are evaluated together.

    Attributes:
        labels: what tells it from the protocol's others: {"blur": "shake", "length": 9}; empty if there are none.
        blur: the config of its blur.
    """

    labels: dict[str, Any]
    blur: BlurConfig


class Protocol(ABC):
    """What is measured: conditions, each of them pairs of sharp and blurred images.

    Attributes:
        metrics: names of the metrics that it has if none are asked for; None: all that apply.
        required: names of the metrics that it has in any case.
        title: for tables and figures.
    """

    title: str
    metrics: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()

    def takes(self, key: str) -> bool:
        """Whether this key of the run's blur, or of the command's, counts; `_target_` is the kind of blur."""
        return True

    def heading(self, data: DeblurDataModule) -> str:
        """The title of what is measured on these data."""
        return self.title

    @abstractmethod
    def conditions(self, blur: BlurConfig, option: Callable[[str], BlurConfig]) -> list[Condition]:
        """The conditions.

        Args:
            blur: the config of the run's test blur, or what the command makes of it.
            option: gives the config of a blur in `configs/blur` by its name.
        """

    def pairs(self, data: DeblurDataModule, condition: Condition, count: int | None) -> EvaluationPairs | Draws:
        """The pairs of a condition; those of the first `count` test images if it is given."""
        if len(data.images.test) == 0:
            raise UsageError("data: has no test images")
        return data.fixed_pairs("test", count)


class Test(Protocol):
    """The test pairs that the run's training reports, or those of another blur or other data."""

    __test__ = False  # no test of pytest's
    title = "test pairs"

    def conditions(self, blur: BlurConfig, option: Callable[[str], BlurConfig]) -> list[Condition]:
        return [Condition({}, blur)]


class Lengths(Protocol):
    """Every blur at every length; noise, registration, padding and camera as in the run's own blur.

    Args:
        blurs: of `shake`, `line` and `gaussian_process`.
        lengths: pixels.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    title = "lengths and kinds of blur"

    def __init__(self, blurs: Sequence[str] = _LENGTHY, lengths: Sequence[float] = (3, 5, 7, 9, 11, 13, 15)) -> None:
        self.blurs = [check_choice("blurs", blur, _LENGTHY) for blur in _filled("blurs", blurs)]
        for length in _filled("lengths", lengths):
            check_number("lengths", length, low=0.0)
        self.lengths = list(lengths)

    def takes(self, key: str) -> bool:
        return key in ("registration", "padding", "noise", "camera")

    def conditions(self, blur: BlurConfig, option: Callable[[str], BlurConfig]) -> list[Condition]:
        kept = {key: value for key, value in blur.items() if self.takes(key)}
        return [
            Condition({"blur": name, "length": length}, {**option(name), **kept, "length": length})
            for name in self.blurs
            for length in self.lengths
        ]


class Noise(Protocol):
    """The run's own blur at several levels of sensor noise.

    Args:
        levels: standard deviations, images being in [0, 1].

    Raises:
        ArgumentError: an argument is out of its range.
    """

    title = "sensor noise"

    def __init__(self, levels: Sequence[float] = (0.0, 0.01, 0.03, 0.1)) -> None:
        for level in _filled("levels", levels):
            check_number("levels", level, low=0.0, high=1.0)
        self.levels = list(levels)

    def takes(self, key: str) -> bool:
        return key != "noise"

    def conditions(self, blur: BlurConfig, option: Callable[[str], BlurConfig]) -> list[Condition]:
        return [Condition({"noise": level}, {**blur, "noise": level}) for level in self.levels]


@dataclass(frozen=True)
class Published:
    """A row of the benchmark that others reported: mean squared error and its standard deviation over rounds."""

    method: str
    mse: float
    std: float | None
    parameters: str


PUBLISHED = (
    Published("mean digit (floor)", 0.0674, None, ""),
    Published("blurred input (floor)", 0.0516, None, ""),
    Published("skip autoencoder, published", 0.003707, None, "1.0 M"),
    Published("U-Net, published best", 0.001624, 0.000023, "7.8 M"),
)
_AS_PUBLISHED = (10, 10_000, 10_000)  # rounds, digits of each, test digits that they are drawn from


class Tremor(Protocol):
    """The public MNIST hand-tremor benchmark: mean squared error over digits drawn with replacement, in rounds.

    In each round so many test digits are drawn with replacement and blurred by the benchmark's random walk, from a
    generator of (`data.eval_seed`, round). The score is the mean over rounds of the mean squared error, with its
    (population) standard deviation over rounds.

    Published are ten rounds of 10,000 of MNIST's 10,000 test digits; the heading of anything else says so.

    Args:
        rounds: how many.
        digits: of each round.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    title = "hand-tremor benchmark"
    metrics = ("psnr", "ssim", "mse")
    required = ("mse",)

    def __init__(self, rounds: int = 10, digits: int = 10_000) -> None:
        self.rounds = check_integer("rounds", rounds, low=1)
        self.digits = check_integer("digits", digits, low=1)

    def takes(self, key: str) -> bool:
        return False

    def heading(self, data: DeblurDataModule) -> str:
        here = (self.rounds, self.digits, len(data.images.test))
        if here == _AS_PUBLISHED:
            return self.title
        return f"{self.title}, not as published: {here[0]} rounds of {here[1]:,} out of {here[2]:,} test digits"

    def conditions(self, blur: BlurConfig, option: Callable[[str], BlurConfig]) -> list[Condition]:
        return [Condition({"round": number + 1}, option("random_walk")) for number in range(self.rounds)]

    def pairs(self, data: DeblurDataModule, condition: Condition, count: int | None) -> Draws:
        if data.images.source != "files" or type(data).__name__ != "MNIST":
            raise UsageError(
                f"protocol=tremor: the benchmark needs MNIST's 10,000 test digits, not {data.origin}; "
                "set DEBLUR_DATA or data.root to the folder that has them"
            )
        if count is not None:
            raise UsageError("images: the benchmark draws its digits from all of the test set; protocol.digits=<n>")
        return Draws(data.images.test, data.blur, self.digits, data.eval_seed, condition.labels["round"])


class Draws:
    """Pairs of images drawn with replacement, with a fresh blur; made in blocks of 1,000, the same for any batch size.

    Args:
        images: uint8 (N, C, H, W) to draw from.
        blur: draws and applies the motions.
        count: how many pairs.
        key: what the draws are a function of.
    """

    alone = False  # as of `EvaluationPairs`
    _BLOCK = 1000

    def __init__(self, images: Tensor, blur: Blur, count: int, *key: int) -> None:
        self.images, self.blur, self.count, self.key = images, blur, count, key

    def __len__(self) -> int:
        return self.count

    def blocks(self) -> Iterator[tuple[Tensor, Pairs]]:
        """(which images, their pairs) of each block, on the CPU."""
        source = generator("benchmark", *self.key)
        for start in range(0, self.count, self._BLOCK):
            chosen = torch.randint(len(self.images), (min(self._BLOCK, self.count - start),), generator=source)
            sharp = to_float(self.images[chosen])
            motion = self.blur.draw(len(sharp), tuple(sharp.shape[-2:]), source)
            yield chosen, Pairs(sharp, self.blur.apply(sharp, motion, source), motion)


def _filled(name: str, values: Any) -> Sequence[Any]:
    if not isinstance(values, list | tuple) or not values:
        raise ArgumentError(name, values, "a list of one or more")
    return values
