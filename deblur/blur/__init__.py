"""Motion blur: random trajectories, their PSFs, and the blurred images. Pure PyTorch."""

from deblur.blur.base import Blur, Motion, PathBlur
from deblur.blur.gaussian_process import GaussianProcess
from deblur.blur.kernels import Kernels
from deblur.blur.line import Line
from deblur.blur.none import NoBlur
from deblur.blur.psf import convolve, draw_psf
from deblur.blur.random_walk import RandomWalk
from deblur.blur.shake import Shake

__all__ = [
    "Blur",
    "GaussianProcess",
    "Kernels",
    "Line",
    "Motion",
    "NoBlur",
    "PathBlur",
    "RandomWalk",
    "Shake",
    "convolve",
    "draw_psf",
]
