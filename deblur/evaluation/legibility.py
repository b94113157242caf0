"""Legibility: whether a classifier that has seen only sharp digits still reads an image."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deblur.errors import ArgumentError

CLASSIFIER = files("deblur.evaluation") / "classifier.safetensors"  # written by scripts/train_classifier.py

_BATCH = 256  # images whose features stay in a processor's cache


class DigitClassifier(nn.Module):
    """A convolutional network that maps digits (B, 1, 28, 28) in [0, 1] to logits (B, 10).

    Three convolutions and two linear layers, as in LeNet-5 (Y. LeCun et al., "Gradient-Based Learning Applied to
    Document Recognition", Proc. IEEE 1998), with strides, batch normalisation and rectifiers: 62 thousand parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_block(1, 8, 5), *_block(8, 24, 3), *_block(24, 48, 3))
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)
        )

    def forward(self, digits: Tensor) -> Tensor:
        return self.head(self.features(digits))


def digit_logits(images: Tensor) -> Tensor:
    """The tracked classifier's logits for the digits 0 to 9, float32 (B, 10), on the images' device.

    Args:
        images: (B, 1, 28, 28), clamped to [0, 1] first.

    Raises:
        ArgumentError: the images have another shape.
    """
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28):
        raise ArgumentError("images", tuple(images.shape), "digits of shape (B, 1, 28, 28)")
    classifier = _classifier(images.device)
    with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
        parts = [classifier(part.float().clamp(0, 1)) for part in images.split(_BATCH)]
    return torch.cat(parts)


def legibility(images: Tensor, labels: Tensor) -> Tensor:
    """1 for each image that the tracked classifier reads as its label and 0 for each other, float32 (B,).

    Its mean over images is the classifier's accuracy, to be read beside that on the sharp digits. The classifier has
    seen no test digit, nor any that the offline sample validates or tests with.

    Args:
        images: (B, 1, 28, 28), clamped to [0, 1] first.
        labels: (B,), the true digits, as of `DeblurDataModule.labels`.

    Raises:
        ArgumentError: the images or labels have another shape.
    """
    if labels.shape != images.shape[:1]:
        raise ArgumentError("labels", tuple(labels.shape), f"one for each of {len(images)} images")
    return (digit_logits(images).argmax(dim=1) == labels.to(images.device)).float()


def _block(channels: int, width: int, size: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, size, stride=2, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


@lru_cache(maxsize=4)
def _classifier(device: torch.device) -> DigitClassifier:
    from safetensors.torch import load

    classifier = DigitClassifier()
    classifier.load_state_dict(load(CLASSIFIER.read_bytes()))
    classifier.requires_grad_(False).eval()
    layers = list(classifier.features)
    for place in [place for place, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm2d)]:
        layers[place - 1], layers[place] = fuse_conv_bn_eval(layers[place - 1], layers[place]), nn.Identity()
    classifier.features = nn.Sequential(*layers)
    return classifier.to(device, memory_format=torch.channels_last)
