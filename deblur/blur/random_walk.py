"""The public MNIST hand-tremor benchmark: ten random moves, each resampling the one before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from deblur.blur.base import Blur, Motion
from deblur.blur.camera import Camera
from deblur.blur.psf import convolve, draw_psf, in_chunks, running_sum
from deblur.errors import ArgumentError, check_integer, check_number


class Walk(Motion):
    """The motion of a random walk; its PSF, that of an infinite image, is worked out when it is asked for."""

    angle = None

    def __init__(self, trajectory: Tensor, noise: Tensor, step: float, camera: Tensor | None = None) -> None:
        self.trajectory, self.noise, self.step, self.camera = trajectory, noise, step, camera

    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.trajectory, self.noise, self.camera

    def _of(self, parts: Iterable[Tensor | None]) -> Walk:
        trajectory, noise, camera = parts
        return Walk(trajectory, noise, self.step, camera)

    @cached_property
    def moves(self) -> Tensor:
        """(B, moves, 1, K, K): the small PSF of each single, bilinear move."""
        moves = self.trajectory.diff(dim=1)
        kernels = draw_psf(moves.flatten(0, 1).unsqueeze(1), 2 * math.ceil(self.step) + 1)
        return kernels.unflatten(0, moves.shape[:2])

    @cached_property
    def psf(self) -> Tensor:
        half = self.moves.shape[1] * math.ceil(self.step)
        point = self.trajectory.new_zeros(len(self), 1, 2 * half + 1, 2 * half + 1)
        point[..., half, half] = 1
        return _mean_of_frames(point, self.moves)


class RandomWalk(Blur):
    """Blur of the hand-tremor benchmark.

    x_0 is the sharp image. For i = 1 ... `steps`: x_i is x_{i-1} translated by (dy, dx), each uniform in +-`step`
    pixels, bilinearly, with zeros shifted in. The blurred image is the mean of x_0 ... x_steps, the target is x_0.
    A bilinear translation is a convolution with a PSF of a few pixels, so each move is one batched convolution.

    Args:
        steps: number of moves.
        step: largest move in y and in x, pixels (the benchmark: 0.07 of 28).
        registration: `start`, by the benchmark's definition.
        padding: `zeros`, by the benchmark's definition.
        noise, camera: see `Blur`.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        steps: int = 10,
        step: float = 0.07 * 28,
        *,
        registration: str = "start",
        padding: str = "zeros",
        noise: float | Sequence[float] = 0.0,
        camera: Camera | None = None,
    ) -> None:
        super().__init__(padding=padding, noise=noise, camera=camera)
        self.steps = check_integer("steps", steps, low=1, high=1000)
        self.step = check_number("step", step, low=0.0)
        if registration != "start":
            raise ArgumentError("registration", registration, "start (so the benchmark of random_walk defines it)")
        if padding != "zeros":
            raise ArgumentError("padding", padding, "zeros (so the benchmark of random_walk defines it)")

    @property
    def reach(self) -> int:
        return self.steps * math.ceil(self.step)

    @torch.no_grad()
    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Walk:
        if 2 * math.ceil(self.step) + 1 > min(image_size):
            most, size = (min(image_size) - 1) // 2, "x".join(map(str, image_size))
            raise ArgumentError("step", self.step, f"at most {most} pixels for images of {size}")
        shape = (batch_size, self.steps, 2)
        moves = (torch.rand(shape, generator=generator, device=generator.device) * 2 - 1) * self.step
        noise, camera = self._draw_noise(batch_size, generator), self._draw_camera(batch_size, generator)
        if camera is not None:
            moves *= camera[:, :1, None]
        trajectory = torch.cat([torch.zeros_like(moves[:, :1]), running_sum(moves.mT).mT], dim=1)
        return Walk(trajectory, noise, self.step, camera)

    def move(self, images: Tensor, motion: Walk) -> Tensor:
        return in_chunks(_mean_of_frames, images, motion.moves, each=True)


def _mean_of_frames(images: Tensor, moves: Tensor) -> Tensor:
    """The mean of the images (B, C, H, W) and of what each of the moves (B, moves, 1, K, K) in turn makes of them."""
    total = frame = images
    for move in moves.unbind(1):
        frame = convolve(frame, move)
        total = total + frame
    return total / (moves.shape[1] + 1)
