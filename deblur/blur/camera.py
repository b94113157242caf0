"""What a camera makes of blurred light: photon noise, read noise, saturation, encoding, quantisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deblur.blur.random import uniform
from deblur.blur.srgb import srgb_decode, srgb_encode
from deblur.errors import check_integer, check_range

_WHITE = 254.5 / 255  # from here on an 8-bit value is white


class Camera:
    """A digital camera: the blur happens in linear light, and a sensor counts it in electrons.

    In physical order: the sharp image, sRGB, is decoded to light (`light`); the blur moves that; the sensor counts
    photons and adds read noise, a gain brings white back to 1, what is above it is cut off, and the light is encoded
    (`record`); the result is stored in a few bits (`store`). Every channel counts by itself: there is no colour filter,
    no demosaicing and no compression.

    Args:
        exposure: share of the full exposure time, or `[min, max]` for a uniformly random one in each image. The length
            of a blur's path is that of the full exposure: a shorter one makes it shorter, and the photons fewer.
        full_well: electrons that white gives in a full exposure, or `[min, max]`; None for neither photon nor read
            noise.
        read_noise: standard deviation in electrons, or `[min, max]`.
        highlights: light that a white pixel of the sharp image has above white, which the sharp image cannot show, or
            `[min, max]`. Without it nothing is brighter than white, and blur alone saturates nothing. Source: J. Rim et
            al., "Realistic Blur Synthesis for Learning Image Deblurring", ECCV 2022 (there 0.25 to 1.75).
        bits: of a stored value; None for no quantisation.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        exposure: float | Sequence[float] = 1.0,
        full_well: float | Sequence[float] | None = 10_000.0,
        read_noise: float | Sequence[float] = 0.0,
        highlights: float | Sequence[float] = 0.0,
        bits: int | None = 8,
    ) -> None:
        self.exposure = check_range("exposure", exposure, low=0.01, high=1.0)
        self.full_well = None if full_well is None else check_range("full_well", full_well, low=1.0, high=1e6)
        self.read_noise = check_range("read_noise", read_noise, low=0.0, high=1e4)
        self.highlights = check_range("highlights", highlights, low=0.0, high=100.0)
        self.bits = None if bits is None else check_integer("bits", bits, low=1, high=16)

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """The exposure, electrons of white, read noise and highlights of each image, (batch_size, 4).

        The electrons are those that the exposure lets in; infinitely many without photon noise.
        """
        exposure = uniform(batch_size, self.exposure, generator)
        full_well = uniform(batch_size, self.full_well or (torch.inf, torch.inf), generator)
        read_noise = uniform(batch_size, self.read_noise, generator)
        highlights = uniform(batch_size, self.highlights, generator)
        return torch.stack([exposure, exposure * full_well, read_noise, highlights], dim=1)

    def light(self, sharp: Tensor, drawn: Tensor) -> Tensor:
        """The linear light of sharp images, (B, C, H, W), white being 1, brighter where the highlights are.

        Args:
            sharp: (B, C, H, W), sRGB in [0, 1].
            drawn: (B, 4), see `draw`.
        """
        light = srgb_decode(sharp)
        if self.highlights[1] > 0:
            light.addcmul_((sharp >= _WHITE).to(light.dtype), drawn[:, 3].view(-1, 1, 1, 1))
        return light

    def record(self, light: Tensor, drawn: Tensor, generator: torch.Generator | None) -> Tensor:
        """The sRGB images in [0, 1] that the sensor makes of the blurred light.

        Args:
            light: (B, C, H, W), white being 1; it may be changed.
            drawn: (B, 4), see `draw`.
            generator: source of the noise; needed only where there is any.
        """
        if self.full_well is not None:
            if generator is None:
                raise ValueError("a camera with noise needs a generator to record")
            white, read_noise = (column.view(-1, 1, 1, 1) for column in (drawn[:, 1], drawn[:, 2]))
            expected = light.mul_(white).clamp_(min=0)  # rounding in the Fourier domain leaves values just below 0
            electrons = torch.poisson(expected.to(generator.device), generator=generator)
            if self.read_noise[1] > 0:
                noise = torch.randn(electrons.shape, generator=generator, device=generator.device)
                electrons.addcmul_(noise, read_noise.to(generator.device))
            light = electrons.to(light.device).div_(white)
        return srgb_encode(light.clamp_(0, 1))

    def store(self, images: Tensor) -> Tensor:
        """The images rounded to the values that so many bits can hold, in [0, 1]."""
        if self.bits is None:
            return images
        steps = 2**self.bits - 1
        return images.clamp(0, 1).mul_(steps).round_().div_(steps)
