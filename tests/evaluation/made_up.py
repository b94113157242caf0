"""Data of other kinds than digits, which stored configs and command lines name."""

from __future__ import annotations

import torch

from deblur.data.module import DeblurDataModule, Images


class Photographs(DeblurDataModule):
    """Colour images of another size than the digits."""

    shape = (3, 40, 36)

    def load(self) -> Images:
        images = torch.randint(256, (6, *self.shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        return Images(images, images, images, "made up")


class Large(Photographs):
    """Grey images of another size than the digits."""

    shape = (1, 32, 32)


class Photograph(Photographs):
    """Grey images that are large enough for LPIPS."""

    shape = (1, 64, 64)


class Empty(Photographs):
    """Colour images of which none are for test."""

    def load(self) -> Images:
        images = super().load()
        return Images(images.train, images.val, images.test[:0], images.source)
