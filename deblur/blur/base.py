"""The two verbs of every blur, `draw` and `apply`, and what they hand each other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from deblur.blur.psf import PADDINGS, convolve, draw_psf
from deblur.errors import ArgumentError, check_choice, check_range


class Motion:
    """The motion of B images during their exposures, as drawn by a blur.

    Attributes:
        psf: (B, 1, K, K), K odd, non-negative, each sums to 1.
        trajectory: (B, T, 2) offsets (y, x) in pixels at equal time steps; None where only the PSF is known.
        noise: (B,) standard deviation of the sensor's Gaussian noise, in units of the image range [0, 1].
    """

    def __init__(self, psf: Tensor, trajectory: Tensor | None, noise: Tensor) -> None:
        self.psf, self.trajectory, self.noise = psf, trajectory, noise

    def __len__(self) -> int:
        return len(self.noise)

    def __getitem__(self, index: Tensor | slice) -> Motion:
        """The motion of the chosen images."""
        trajectory = None if self.trajectory is None else self.trajectory[index]
        return Motion(self.psf[index], trajectory, self.noise[index])

    def to(self, device: torch.device | str) -> Motion:
        """The same motion on another device."""
        trajectory = None if self.trajectory is None else self.trajectory.to(device)
        return Motion(self.psf.to(device), trajectory, self.noise.to(device))

    @classmethod
    def cat(cls, motions: Sequence[Motion]) -> Motion:
        """The motions of several batches as those of one."""
        paths = [motion.trajectory for motion in motions]
        trajectory = None if paths[0] is None else torch.cat(paths)
        return cls(torch.cat([m.psf for m in motions]), trajectory, torch.cat([m.noise for m in motions]))


class Blur(ABC):
    """A random motion blur: `draw` a motion for each image, `apply` it.

    Args:
        padding: what lies outside the image: `zeros`, `reflect` or `circular`.
        noise: standard deviation of the Gaussian sensor noise in [0, 1] units, or `[min, max]` for a uniformly random
            one in each image.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, *, padding: str = "zeros", noise: float | Sequence[float] = 0.0) -> None:
        self.padding = check_choice("padding", padding, PADDINGS)
        self.noise = check_range("noise", noise, low=0.0, high=1.0)

    @property
    @abstractmethod
    def reach(self) -> int:
        """How far the light of a pixel gets at most along either axis, in pixels."""

    @abstractmethod
    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        """Random motions for `batch_size` images of (height, width) pixels, on the generator's device.

        Raises:
            ArgumentError: the PSF would be larger than the image.
        """

    def apply(self, sharp: Tensor, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        """The blurred images, (B, C, H, W), not clamped.

        Args:
            sharp: (B, C, H, W) in [0, 1], on the motion's device.
            motion: what `draw` returned for B images.
            generator: source of the sensor noise; needed only where the motion has any.
        """
        return self._add_noise(convolve(sharp, motion.psf, self.padding), motion, generator)

    def _add_noise(self, blurred: Tensor, motion: Motion, generator: torch.Generator | None) -> Tensor:
        if self.noise[1] == 0:
            return blurred
        if generator is None:
            raise ValueError("a blur with noise needs a generator to be applied")
        noise = torch.randn(blurred.shape, generator=generator, device=generator.device).to(blurred.device)
        return torch.addcmul(blurred, noise, motion.noise.view(-1, 1, 1, 1))

    def _draw_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        return uniform(batch_size, self.noise, generator)


class PathBlur(Blur):
    """A blur whose image moves along a path of given arc length; subclasses draw the paths.

    Args:
        length: arc length in pixels, or `[min, max]` for uniformly random lengths.
        registration: the instant that the sharp image is aligned to: `centroid` (mean position) or `start`.
        padding, noise: see `Blur`.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        length: float | Sequence[float] = 9.0,
        *,
        registration: str = "centroid",
        padding: str = "zeros",
        noise: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__(padding=padding, noise=noise)
        self.length = check_range("length", length, low=0.0)
        self.registration = check_choice("registration", registration, ("centroid", "start"))

    @property
    def points(self) -> int:
        """Points of a trajectory: 32, or two a pixel of the longest path if that is more."""
        return max(32, math.ceil(2 * self.length[1]))

    @property
    def reach(self) -> int:
        return self.psf_size // 2

    @property
    def psf_size(self) -> int:
        """Side of the PSF in pixels: the smallest that no path can leave.

        A path of length L at constant speed stays within L/2 of its mean position and within L of its start.
        """
        reach = self.length[1] / 2 if self.registration == "centroid" else self.length[1]
        return 2 * math.ceil(reach) + 1

    @abstractmethod
    def draw_paths(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Random paths of length 1 at constant speed, (batch_size, points, 2), on the generator's device."""

    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        size = self.psf_size
        if size > min(image_size):
            longest = (min(image_size) - 1) // 2 * (2 if self.registration == "centroid" else 1)
            raise ArgumentError(
                "length",
                f"{self.length[0]:g}" if self.length[0] == self.length[1] else list(self.length),
                f"at most {longest} for images of {image_size[0]}x{image_size[1]} pixels "
                f"with registration {self.registration}",
            )
        length = uniform(batch_size, self.length, generator)
        trajectory = self.draw_paths(batch_size, generator).contiguous().mul_(length.view(-1, 1, 1))
        centroid = self.registration == "centroid"
        trajectory.sub_(trajectory.mean(dim=1, keepdim=True) if centroid else trajectory[:, :1].clone())
        trajectory.clamp_(-(size // 2), size // 2)  # undoes float rounding only: no path reaches farther
        return Motion(draw_psf(trajectory, size), trajectory, self._draw_noise(batch_size, generator))


def uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    """`count` numbers, uniform between the bounds, on the generator's device."""
    low, high = bounds
    if low == high:
        return torch.full((count,), low, device=generator.device)
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low
