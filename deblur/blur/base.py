"""The two verbs of every blur, `draw` and `apply`, and what they hand each other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from deblur.blur.camera import Camera
from deblur.blur.psf import PADDINGS, convolve, draw_psf
from deblur.blur.random import uniform
from deblur.errors import ArgumentError, check_choice, check_range


class Motion:
    """The motion of B images during their exposures, as drawn by a blur.

    Attributes:
        psf: (B, 1, K, K), K odd, non-negative, each sums to 1. Where the image turns, that of its centre.
        trajectory: (B, T, 2) offsets (y, x) in pixels at equal time steps; None where only the PSF is known.
        noise: (B,) standard deviation of the sensor's Gaussian noise, in units of the image range [0, 1].
        camera: (B, 4) what the camera drew for each image, see `Camera.draw`; None without a camera.
        angle: (B, T) how far the image is turned about its centre at the trajectory's time steps, in radians, clockwise
            as it is seen; None where it does not turn.
    """

    def __init__(
        self,
        psf: Tensor,
        trajectory: Tensor | None,
        noise: Tensor,
        camera: Tensor | None = None,
        angle: Tensor | None = None,
    ) -> None:
        self.psf, self.trajectory, self.noise, self.camera, self.angle = psf, trajectory, noise, camera, angle

    def __len__(self) -> int:
        return len(self.noise)

    def path_of(self, place: tuple[float, float]) -> Tensor:
        """Where a point of the image lies at the trajectory's time steps, (B, T, 2) in pixels from the image's centre.

        Args:
            place: (y, x) of the point in pixels from the centre.
        """
        y, x = place
        if self.angle is None:
            return self.trajectory + self.trajectory.new_tensor(place)
        sine, cosine = self.angle.sin(), self.angle.cos()
        return self.trajectory + torch.stack([y * cosine + x * sine, x * cosine - y * sine], dim=-1)

    def __getitem__(self, index: Tensor | slice) -> Motion:
        """The motion of the chosen images."""
        return self._of(None if part is None else part[index] for part in self._parts())

    def to(self, device: torch.device | str) -> Motion:
        """The same motion on another device."""
        return self._of(None if part is None else part.to(device) for part in self._parts())

    @classmethod
    def cat(cls, motions: Sequence[Motion]) -> Motion:
        """The motions of several batches as those of one."""
        same = zip(*(motion._parts() for motion in motions), strict=True)
        return motions[0]._of(None if parts[0] is None else torch.cat(parts) for parts in same)

    def _parts(self) -> tuple[Tensor | None, ...]:
        """What there is one of for each image."""
        return self.psf, self.trajectory, self.noise, self.camera, self.angle

    def _of(self, parts: Iterable[Tensor | None]) -> Motion:
        """The motion that has these parts."""
        return Motion(*parts)


class Blur(ABC):
    """A random motion blur: `draw` a motion for each image, `apply` it.

    Args:
        padding: what lies outside the image: `zeros`, `reflect` or `circular`.
        noise: standard deviation of the Gaussian sensor noise in [0, 1] units, or `[min, max]` for a uniformly random
            one in each image. With a camera it comes on top, after its encoding.
        camera: what takes the picture; None moves the stored values themselves, and leaves them as they come out.

    Attributes:
        one_psf: whether the blur is the same everywhere in an image, so that its PSF says all.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    one_psf = True

    def __init__(
        self,
        *,
        padding: str = "zeros",
        noise: float | Sequence[float] = 0.0,
        camera: Camera | None = None,
    ) -> None:
        self.padding = check_choice("padding", padding, PADDINGS)
        self.noise = check_range("noise", noise, low=0.0, high=1.0)
        if camera is not None and not isinstance(camera, Camera):
            raise ArgumentError("camera", camera, "a Camera, as blur/camera=phone makes one, or null")
        self.camera = camera

    @property
    @abstractmethod
    def reach(self) -> int:
        """How far the light of the central pixel gets at most along either axis, in pixels."""

    def margin(self, image_size: tuple[int, int]) -> int:
        """How far from outside, in pixels, light gets into an image of (height, width) pixels at most."""
        return self.reach

    @abstractmethod
    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        """Random motions for `batch_size` images of (height, width) pixels, on the generator's device.

        Raises:
            ArgumentError: the PSF would be larger than the image.
        """

    def move(self, images: Tensor, motion: Motion) -> Tensor:
        """The mean of the images over their motions, (B, C, H, W); linear in the images."""
        return convolve(images, motion.psf, self.padding)

    def apply(self, sharp: Tensor, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        """The blurred images, (B, C, H, W), not clamped unless the camera does it; computed in float32.

        Args:
            sharp: (B, C, H, W) in [0, 1], on the motion's device; the blurred images have its type.
            motion: what `draw` returned for B images.
            generator: source of the sensor noise; needed only where the motion has any.

        Raises:
            ArgumentError: the images are no floats.
        """
        if sharp.dtype != torch.float32:
            if not sharp.is_floating_point():
                raise ArgumentError("sharp", sharp.dtype, "images of a floating type, in [0, 1]")
            return self.apply(sharp.float(), motion, generator).to(sharp.dtype)
        if self.camera is None:
            return self._add_noise(self.move(sharp, motion), motion, generator)
        light = self.move(self.camera.light(sharp, motion.camera), motion)
        recorded = self.camera.record(light, motion.camera, generator)
        return self.camera.store(self._add_noise(recorded, motion, generator))

    def _add_noise(self, blurred: Tensor, motion: Motion, generator: torch.Generator | None) -> Tensor:
        if self.noise[1] == 0:
            return blurred
        if generator is None:
            raise ValueError("a blur with noise needs a generator to be applied")
        noise = torch.randn(blurred.shape, generator=generator, device=generator.device).to(blurred.device)
        return torch.addcmul(blurred, noise, motion.noise.view(-1, 1, 1, 1))

    def _draw_noise(self, batch_size: int, generator: torch.Generator) -> Tensor:
        return uniform(batch_size, self.noise, generator)

    def _draw_camera(self, batch_size: int, generator: torch.Generator) -> Tensor | None:
        return None if self.camera is None else self.camera.draw(batch_size, generator)


class PathBlur(Blur):
    """A blur whose image moves along a path of given arc length; subclasses draw the paths.

    Args:
        length: arc length in pixels, or `[min, max]` for uniformly random lengths.
        registration: the instant that the sharp image is aligned to: `centroid` (mean position) or `start`.
        padding, noise, camera: see `Blur`.

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
        camera: Camera | None = None,
    ) -> None:
        super().__init__(padding=padding, noise=noise, camera=camera)
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
        trajectory = self.draw_paths(batch_size, generator).contiguous()
        noise, camera = self._draw_noise(batch_size, generator), self._draw_camera(batch_size, generator)
        trajectory.mul_((length if camera is None else length * camera[:, 0]).view(-1, 1, 1))
        centroid = self.registration == "centroid"
        trajectory.sub_(trajectory.mean(dim=1, keepdim=True) if centroid else trajectory[:, :1].clone())
        trajectory.clamp_(-(size // 2), size // 2)  # undoes float rounding only: no path reaches farther
        return Motion(draw_psf(trajectory, size), trajectory, noise, camera)
