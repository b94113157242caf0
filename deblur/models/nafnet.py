"""NAFNet: a U-Net of blocks without activation functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur.errors import ArgumentError, check_integer


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # A convolution of channels that lie innermost would tie an exported graph to batches of two or more.
        return x.contiguous() if torch.compiler.is_compiling() else x


class SimpleGate(nn.Module):
    """The product of one half of the channels and the other."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return first * second


class ChannelAttention(nn.Module):
    """Each channel times a linear function of the means of all channels.

    Args:
        width: channels.
        window: side of the square over which a network that is not training takes the means, pixels; None: the image.
    """

    def __init__(self, width: int, window: int | None) -> None:
        super().__init__()
        self.window = window
        self.weigh = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.window is None or self.training:
            return x * self.weigh(x.mean((2, 3), keepdim=True))
        return x * self.weigh(local_mean(x, self.window))


class Block(nn.Module):
    """Convolution and attention, then two layers on each pixel; either is added to its input, at first with weight 0.

    Args:
        width: channels.
        window: see `ChannelAttention`.
    """

    def __init__(self, width: int, window: int | None) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            LayerNorm2d(width),
            nn.Conv2d(width, 2 * width, 1),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width),
            SimpleGate(),
            ChannelAttention(width, window),
            nn.Conv2d(width, width, 1),
        )
        self.feed = nn.Sequential(
            LayerNorm2d(width), nn.Conv2d(width, 2 * width, 1), SimpleGate(), nn.Conv2d(width, width, 1)
        )
        self.beta = nn.Parameter(torch.zeros(width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.beta * self.mix(x)
        return x + self.gamma * self.feed(x)


class NAFNet(nn.Module):
    """U-Net of blocks without activation functions that adds a residual to its input.

    A block multiplies where others have an activation: one half of its channels by the other (a gate), and every
    channel by a linear function of the means of all (attention). Both of its steps are added to its input with a
    learned weight for each channel that starts at 0, so that a new network is what its convolutions between the levels
    and at both ends are, and its blocks come in as they learn. Each level halves the resolution and doubles the width.
    L. Chen, X. Chu, X. Zhang and J. Sun, "Simple Baselines for Image Restoration", ECCV 2022.

    The means are of the whole image, so a network that learned from crops sees other statistics on large images. So,
    when it is not training, each pixel's means are those of a square as large as a training crop around it, moved
    inwards at borders; images no larger than that are restored as in training. X. Chu, L. Chen, C. Chen and X. Lu,
    "Improving Image Restoration by Revisiting Global Information Aggregation", ECCV 2022. An output pixel depends on
    input half a window away and more: tiles of a large picture agree closely, but not to rounding.

    Args:
        channels: channels of the images.
        width: feature maps at full resolution.
        encoder_blocks: blocks of each level on the way down, from full resolution; as many levels as numbers.
        middle_blocks: blocks at the lowest resolution.
        decoder_blocks: blocks of each level on the way up, from full resolution too.
        attention_window: side of the square of the means, pixels of the image; that of the training crops. None: means
            of the whole image always.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 16,
        encoder_blocks: Sequence[int] = (1, 1, 1),
        middle_blocks: int = 2,
        decoder_blocks: Sequence[int] = (1, 1, 1),
        attention_window: int | None = None,
    ) -> None:
        super().__init__()
        check_integer("channels", channels, low=1)
        check_integer("width", width, low=1)
        check_integer("middle_blocks", middle_blocks, low=0)
        for name, counts in (("encoder_blocks", encoder_blocks), ("decoder_blocks", decoder_blocks)):
            if not isinstance(counts, list | tuple) or not counts:
                raise ArgumentError(name, counts, "a list of whole numbers, one for each level")
            for count in counts:
                check_integer(name, count, low=0)
        levels = len(encoder_blocks)
        if len(decoder_blocks) != levels:
            raise ArgumentError("decoder_blocks", decoder_blocks, f"as many numbers as encoder_blocks has ({levels})")
        if attention_window is not None:
            check_integer("attention_window", attention_window, low=1)
        self.multiple = 2**levels
        # Of padded images, whose sides are multiples of what the levels need.
        window = None if attention_window is None else -(-attention_window // self.multiple) * self.multiple

        def level(i: int, count: int) -> nn.Sequential:
            seen = None if window is None else window // 2**i
            return nn.Sequential(*(Block(width * 2**i, seen) for _ in range(count)))

        widths = [width * 2**i for i in range(levels)]
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(level(i, count) for i, count in enumerate(encoder_blocks))
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths)
        self.middle = level(levels, middle_blocks)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2)) for w in reversed(widths)
        )
        self.decoders = nn.ModuleList(level(i, decoder_blocks[i]) for i in reversed(range(levels)))
        self.head = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W), of any height and width."""
        height, width = blurred.shape[-2:]
        x = self.stem(F.pad(blurred, (0, -width % self.multiple, 0, -height % self.multiple)))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        return blurred + self.head(x)[..., :height, :width]


def local_mean(x: Tensor, window: int) -> Tensor:
    """The means over a square around each pixel, (B, C, H, W), as sums of a running total: its size costs nothing.

    At borders the square is moved inwards; where the image is narrower than the square, it is all of the image.

    Args:
        x: (B, C, H, W).
        window: side of the square, pixels.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        end = (torch.arange(size, device=x.device) + (window - window // 2)).clamp(window).clamp(max=size)
        start = (end - window).clamp(0)
        total = x.cumsum(axis, dtype=torch.promote_types(x.dtype, torch.float32))
        total = F.pad(total, (0, 0, 1, 0) if axis == 2 else (1, 0))
        sums = total.index_select(axis, end) - total.index_select(axis, start)
        x = (sums / (end - start).view(-1, *[1] * (3 - axis))).to(x.dtype)
    return x
