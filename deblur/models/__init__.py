"""Networks from blurred to restored images, (B, C, H, W) to the same shape. Pure PyTorch."""

from deblur.models.cnn import CNN
from deblur.models.coarse_to_fine import CoarseToFine
from deblur.models.deconvolver import BlindDeconvolver
from deblur.models.mlp import MLP
from deblur.models.nafnet import NAFNet
from deblur.models.unet import UNet

__all__ = ["CNN", "MLP", "BlindDeconvolver", "CoarseToFine", "NAFNet", "UNet"]
