"""Motion blur: random trajectories, their PSFs, and the blurred images. Pure PyTorch."""

from deblur.blur.base import Blur, Motion, PathBlur
from deblur.blur.camera import Camera
from deblur.blur.gaussian_process import GaussianProcess
from deblur.blur.kernels import Kernels
from deblur.blur.line import Line
from deblur.blur.none import NoBlur
from deblur.blur.psf import convolve, draw_psf
from deblur.blur.random_walk import RandomWalk
from deblur.blur.shake import Shake
from deblur.blur.shake3d import Shake3D

__all__ = [
    "Blur",
    "Camera",
    "GaussianProcess",
    "Kernels",
    "Line",
    "Motion",
    "NoBlur",
    "PathBlur",
    "RandomWalk",
    "Shake",
    "Shake3D",
    "convolve",
    "draw_psf",
]
