"""A residual U-Net."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from deblur.errors import ArgumentError, check_integer


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class UNet(nn.Module):
    """U-Net with residual blocks that adds a residual to its input.

    Each level halves the resolution with a strided convolution; the way back doubles it with a pixel shuffle and adds
    the features of the same level from the way down. After O. Ronneberger, P. Fischer and T. Brox, "U-Net", MICCAI
    2015, with the residual blocks without normalisation of EDSR (B. Lim et al., CVPRW 2017).

    Args:
        channels: channels of the images.
        widths: feature maps of each level, from full resolution down; as many levels as numbers.
        blocks: residual blocks of each level, on the way down and again on the way up (the deepest level once).

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self, channels: int = 1, widths: Sequence[int] = (16, 32, 64), blocks: Sequence[int] = (1, 1, 2)
    ) -> None:
        super().__init__()
        check_integer("channels", channels, low=1)
        for name, values in (("widths", widths), ("blocks", blocks)):
            if not isinstance(values, list | tuple) or not values:
                raise ArgumentError(name, values, "a list of whole numbers, one for each level")
        for width in widths:
            check_integer("widths", width, low=1)
        for count in blocks:
            check_integer("blocks", count, low=0)
        if len(blocks) != len(widths):
            raise ArgumentError("blocks", blocks, f"as many numbers as widths has ({len(widths)})")

        def level(i: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(widths[i]) for _ in range(blocks[i])))

        deeper = range(len(widths) - 1)
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(level(i) for i in deeper)
        self.downs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in deeper)
        self.bottom = level(len(widths) - 1)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[i + 1], 4 * widths[i], 1), nn.PixelShuffle(2)) for i in reversed(deeper)
        )
        self.decoders = nn.ModuleList(level(i) for i in reversed(deeper))
        self.head = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W), of any height and width."""
        height, width = blurred.shape[-2:]
        multiple = 2 ** len(self.downs)
        x = self.stem(F.pad(blurred, (0, -width % multiple, 0, -height % multiple)))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        return blurred + self.head(x)[..., :height, :width]
