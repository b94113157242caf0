"""Camera shake that also rolls: translation in the image plane and rotation about the optical axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur.blur.base import Motion
from deblur.blur.gaussian_process import matern_root
from deblur.blur.psf import in_chunks
from deblur.blur.random import uniform
from deblur.blur.shake import Shake
from deblur.errors import ArgumentError, check_range

_SCALE = 0.5  # of the rotation's covariance, as a share of the exposure
_NODES = 512  # most points that the angle is drawn at; it is far smoother than that
_OUTSIDE = {"zeros": "zeros", "reflect": "reflection", "circular": "zeros"}  # in the words of grid_sample


class Shake3D(Shake):
    """Hand shake in the image plane, as in `Shake`, during which the camera also rolls about its optical axis.

    A point p, seen from the image's centre, lies at R(a) p + d at each instant, where d follows the path of `Shake` and
    the angle a a Gaussian process with Matern-5/2 covariance. So the blur differs from place to place: there is no PSF
    of the image, only one of each point; `Motion.psf` is that of the centre. The blurred image is the mean over the
    exposure of the frames, each of them interpolated bilinearly from the sharp image, once. Without rotation that is
    the convolution with the PSF of `Shake`.

    Source: O. Whyte, J. Sivic, A. Zisserman and J. Ponce, "Non-uniform Deblurring for Shaken Images", IJCV 2012; A.
    Gupta et al., "Single Image Deblurring Using Motion Density Functions", ECCV 2010, for the translation in the plane
    and the roll alone.

    Args:
        length: arc length of the translation in pixels, or `[min, max]`.
        rotation: difference between the exposure's largest and smallest angle in degrees, or `[min, max]`.
        anxiety, points: see `Shake`; where a frame would move by much more than a pixel at the image's corner, there
            are more frames than points.
        **common: see `PathBlur`. `registration` concerns both: their means over the exposure are 0, or they start at 0
            (within a few tenths of a pixel, where there are more frames than points).

    Example:
        >>> blur = Shake3D(length=9, rotation=3)
        >>> generator = torch.Generator().manual_seed(0)
        >>> motion = blur.draw(4, (64, 64), generator)
        >>> motion.trajectory.shape, motion.angle.shape
        (torch.Size([4, 32, 2]), torch.Size([4, 32]))
    """

    one_psf = False

    def __init__(
        self,
        length: float | Sequence[float] = 9.0,
        rotation: float | Sequence[float] = 3.0,
        anxiety: float = 1.0,
        points: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(length, anxiety, points, **common)
        self.rotation = check_range("rotation", rotation, low=0.0, high=90.0)
        self._root = matern_root(min(self.points, _NODES), _SCALE)

    def margin(self, image_size: tuple[int, int]) -> int:
        reach = self.length[1] / (2 if self.registration == "centroid" else 1)
        return math.ceil(reach + 2 * _corner(image_size) * math.sin(math.radians(self.rotation[1]) / 2))

    def frames(self, image_size: tuple[int, int]) -> int:
        """Frames of an exposure, so many that one moves by about a pixel at most at the image's corner."""
        # The fastest that half of the angles' paths get is 3.2 times their range in an exposure.
        farthest = self.length[1] + 4 * math.radians(self.rotation[1]) * _corner(image_size)
        return max(self.points, math.ceil(farthest))

    @torch.no_grad()
    def draw(self, batch_size: int, image_size: tuple[int, int], generator: torch.Generator) -> Motion:
        margin = self.margin(image_size)
        if self.padding == "circular" and margin > min(image_size):
            raise ArgumentError(
                "rotation", self.rotation[1], f"so small that the blur wraps around {min(image_size)} pixels only once"
            )
        motion = super().draw(batch_size, image_size, generator)
        angle = torch.randn(batch_size, len(self._root), generator=generator, device=generator.device)
        angle = angle @ self._root.to(generator.device).mT
        if self.points > len(self._root):
            angle = F.interpolate(angle.unsqueeze(1), self.points, mode="linear", align_corners=True).squeeze(1)
        span = angle.amax(dim=1, keepdim=True) - angle.amin(dim=1, keepdim=True)
        rotation = uniform(batch_size, self.rotation, generator) * (math.pi / 180)
        if motion.camera is not None:
            rotation *= motion.camera[:, 0]
        angle *= rotation.unsqueeze(1) / span.clamp(min=1e-12)
        angle -= angle.mean(dim=1, keepdim=True) if self.registration == "centroid" else angle[:, :1].clone()
        motion.angle = angle
        return motion

    def move(self, images: Tensor, motion: Motion) -> Tensor:
        size = tuple(images.shape[-2:])
        if self.padding == "circular":
            images = F.pad(images, (self.margin(size),) * 4, mode="circular")
        poses = torch.cat([motion.trajectory, motion.angle.unsqueeze(-1)], dim=-1).mT  # (B, 3, T): y, x, angle
        frames = self.frames(size)
        if frames > poses.shape[-1]:
            mean = poses.mean(dim=-1, keepdim=True)
            poses = F.interpolate(poses, size=frames, mode="linear", align_corners=True)
            poses += mean - poses.mean(dim=-1, keepdim=True)  # the ends count less among more poses
        return in_chunks(partial(_mean_of_frames, size=size, outside=_OUTSIDE[self.padding]), images, poses, each=True)


def _corner(image_size: tuple[int, int]) -> float:
    """The distance of the corner pixels from the image's centre."""
    return math.hypot(*(side - 1 for side in image_size)) / 2


def _mean_of_frames(images: Tensor, poses: Tensor, size: tuple[int, int], outside: str) -> Tensor:
    """The mean of the images (B, C, H, W) over the poses (B, 3, T), cut to the central `size`.

    One frame at a time: all at once would take T times the images' memory.
    """
    frames = _placed(poses, size, tuple(images.shape[-2:])).unbind(1)
    total = torch.zeros(*images.shape[:2], *size, dtype=images.dtype, device=images.device)
    rows, columns = (poses.new_tensor([0.0]) if side == 1 else torch.linspace(-1, 1, side).to(poses) for side in size)
    rows, columns = rows.view(-1, 1, 1), columns.view(-1, 1)
    for frame in frames:
        by_x, by_y, shift = frame[:, None, None].unbind(-1)  # (B, 1, 1, 2) each
        # what `affine_grid` makes by a product of matrices, which a training on a GPU may round to TF32
        grid = (by_x * columns + (by_y * rows + shift)).to(images.dtype)
        total += F.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=True)
    return total.div_(len(frames))


def _placed(poses: Tensor, size: tuple[int, int], source: tuple[int, int]) -> Tensor:
    """(B, T, 2, 3): where each pixel of a frame comes from, in `affine_grid`'s units: (x, y), sides from -1 to 1.

    The pixel q of a frame shows the point R(-a) (q - d) of the image.

    Args:
        poses: (B, 3, T): y, x in pixels, angle in radians.
        size: of the frames.
        source: (height, width) of the images, with the same centre.
    """
    (half_y, half_x), (wide_y, wide_x) = (tuple(max(side - 1, 1) / 2 for side in sides) for sides in (size, source))
    y, x, angle = poses.unbind(1)
    sine, cosine = angle.sin(), angle.cos()
    across = [cosine * half_x, sine * half_y, -cosine * x - sine * y]
    down = [-sine * half_x, cosine * half_y, sine * x - cosine * y]
    return torch.stack([torch.stack(across, dim=-1) / wide_x, torch.stack(down, dim=-1) / wide_y], dim=-2)
