"""A plain convolutional network at full resolution."""

from __future__ import annotations

from torch import Tensor, nn

from deblur.errors import check_integer


class CNN(nn.Module):
    """A stack of 3x3 convolutions that adds a residual to its input.

    Each pixel sees 2 depth + 1 pixels in each direction. After VDSR (J. Kim, J. K. Lee and K. M. Lee, "Accurate Image
    Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016) and DnCNN, without batch normalisation.

    Args:
        channels: channels of the images.
        width: feature maps of each hidden layer.
        depth: number of convolutions, at least 2.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, channels: int = 1, width: int = 40, depth: int = 10) -> None:
        super().__init__()
        check_integer("channels", channels, low=1)
        check_integer("width", width, low=1)
        check_integer("depth", depth, low=2)
        sizes = [channels] + [width] * (depth - 1)
        layers = [
            layer
            for i in range(depth - 1)
            for layer in (nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1), nn.ReLU(inplace=True))
        ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W), of any height and width."""
        return blurred + self.layers(blurred)
