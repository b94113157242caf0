"""A plain convolutional network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deblur.errors import check_integer


class CNN(nn.Module):
    """A stack of 3x3 convolutions on unshuffled pixels that adds a residual to its input.

    Each `shuffle` x `shuffle` block of pixels becomes one position with so many times the channels, which costs a
    fraction of full resolution and lets each pixel see depth * shuffle pixels in each direction. After FFDNet
    (K. Zhang, W. Zuo and L. Zhang, "FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising", IEEE
    TIP 2018), without its noise map and batch normalisation.

    Args:
        channels: channels of the images.
        width: feature maps of each hidden layer; multiples of 16 are fast.
        depth: number of convolutions, at least 2.
        shuffle: side of the unshuffled blocks, pixels; 1 works at full resolution.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, channels: int = 1, width: int = 64, depth: int = 6, shuffle: int = 2) -> None:
        super().__init__()
        check_integer("channels", channels, low=1)
        check_integer("width", width, low=1)
        check_integer("depth", depth, low=2)
        self.shuffle = check_integer("shuffle", shuffle, low=1)
        outside = channels * shuffle**2
        sizes = [outside] + [width] * (depth - 1)
        layers = [
            layer
            for i in range(depth - 1)
            for layer in (nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1), nn.ReLU(inplace=True))
        ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, outside, 3, padding=1))

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W), of any height and width."""
        height, width = blurred.shape[-2:]
        x = F.pad(blurred, (0, -width % self.shuffle, 0, -height % self.shuffle))
        residual = F.pixel_shuffle(self.layers(F.pixel_unshuffle(x, self.shuffle)), self.shuffle)
        return blurred + residual[..., :height, :width]
