"""A multilayer perceptron over all pixels at once."""

from __future__ import annotations

from torch import Tensor, nn

from deblur.errors import check_integer


class MLP(nn.Module):
    """Fully connected network that adds a residual to its input.

    Every pixel sees every other, but nothing is shared between places: it learns each shift of each stroke anew.
    The baseline for blind deconvolution by H. Burger, C. Schuler and S. Harmeling, "Image Denoising: Can Plain Neural
    Networks Compete with BM3D?", CVPR 2012, on whole images instead of patches.

    Args:
        image_size: height and width of the images, pixels; it serves no other size.
        channels: channels of the images.
        width: units of each hidden layer.
        depth: number of hidden layers.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(self, image_size: int = 28, channels: int = 1, width: int = 1024, depth: int = 2) -> None:
        super().__init__()
        check_integer("image_size", image_size, low=1)
        check_integer("channels", channels, low=1)
        check_integer("width", width, low=1)
        check_integer("depth", depth, low=1)
        self.shape = (channels, image_size, image_size)
        pixels = channels * image_size**2
        sizes = [pixels] + [width] * depth
        layers = [layer for i in range(depth) for layer in (nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU(inplace=True))]
        self.layers = nn.Sequential(*layers, nn.Linear(width, pixels))

    def forward(self, blurred: Tensor) -> Tensor:
        """The restored images, (B, C, H, W).

        Raises:
            ValueError: the images are not of the size that the network was built for.
        """
        if blurred.shape[1:] != self.shape:
            raise ValueError(
                f"this MLP was built for images of {'x'.join(map(str, self.shape))} (channels, height, width), "
                f"not {'x'.join(map(str, blurred.shape[1:]))}; a convolutional network takes any size"
            )
        return blurred + self.layers(blurred.flatten(1)).view_as(blurred)
