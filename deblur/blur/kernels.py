"""Blur with given PSFs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deblur.blur.base import Blur, Motion
from deblur.blur.camera import Camera
from deblur.errors import ArgumentError, check_choice


class Kernels(Blur):
    """Blur with one of the given PSFs, drawn uniformly for each image.

    Args:
        psfs: (N, K, K), K odd, finite, non-negative, each with a positive sum; scaled to sum to 1.
        registration: `centroid` moves each PSF so that its mean position is the central pixel (bilinearly, on a grid
            that is large enough), `given` leaves it where it is.
        padding, noise, camera: see `Blur`. A PSF holds no path: a camera's shorter exposure leaves it as it is.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        psfs: Tensor,
        *,
        registration: str = "centroid",
        padding: str = "zeros",
        noise: float | Sequence[float] = 0.0,
        camera: Camera | None = None,
    ) -> None:
        super().__init__(padding=padding, noise=noise, camera=camera)
        self.registration = check_choice("registration", registration, ("centroid", "given"))
        shape = "x".join(map(str, psfs.shape))
        if psfs.ndim != 3 or psfs.shape[1] != psfs.shape[2] or psfs.shape[1] % 2 == 0 or len(psfs) == 0:
            raise ArgumentError("psfs", shape, "of shape (N, K, K) with N > 0 and K odd")
        psfs = psfs.double()
        mass = psfs.sum(dim=(1, 2), keepdim=True)
        if not torch.isfinite(mass).all() or (psfs < 0).any() or (mass <= 0).any():
            raise ArgumentError("psfs", shape, "finite and non-negative, each PSF with a positive sum")
        psfs = psfs / mass
        self.psfs = (_centred(psfs) if self.registration == "centroid" else psfs).float().unsqueeze(1)

    @property
    def reach(self) -> int:
        return self.psfs.shape[-1] // 2

    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        size = self.psfs.shape[-1]
        if size > min(image_size):
            raise ArgumentError("psfs", f"{size}x{size} pixels", f"at most {min(image_size)}, the image's side")
        chosen = torch.randint(len(self.psfs), (batch_size,), generator=generator, device=generator.device)
        self.psfs = self.psfs.to(generator.device)
        noise, camera = self._draw_noise(batch_size, generator), self._draw_camera(batch_size, generator)
        return Motion(self.psfs[chosen], None, noise, camera)


def _centred(psfs: Tensor) -> Tensor:
    """The PSFs moved so that their centroids lie on the central pixel, on the smallest odd grid that clips nothing."""
    size = psfs.shape[-1]
    grid = torch.arange(size, dtype=psfs.dtype) - size // 2
    mass = torch.stack([psfs.sum(dim=2), psfs.sum(dim=1)], dim=1)  # (N, 2, K): over y and over x
    centroid = (mass * grid).sum(dim=-1)
    farthest = size // 2 + int(centroid.abs().max().ceil())
    wide = torch.arange(-farthest, farthest + 1, dtype=psfs.dtype)
    move = (1 - (wide[:, None] - (grid - centroid[..., None])[..., None, :]).abs()).clamp_(min=0)  # (N, 2, wide, K)
    moved = move[:, 0] @ psfs @ move[:, 1].mT
    used = (moved.sum(dim=0) > 1e-12).nonzero()
    half = int((used - farthest).abs().max())
    return moved[:, farthest - half : farthest + half + 1, farthest - half : farthest + half + 1]
