"""What a network is held to in training: the last image, and if asked what it makes on the way there."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from deblur.blur import Shake
from deblur.blur.psf import crop_psf
from deblur.data.pairs import Pairs
from deblur.errors import ArgumentError
from deblur.training.module import DeblurModule

CNN = {"_target_": "deblur.models.CNN", "width": 8, "depth": 2}
DECONVOLVER = {"_target_": "deblur.models.BlindDeconvolver", "widths": [8, 12], "first_widths": [8, 12]} | {
    "blocks": [0, 1],
    "first_blocks": [0, 1],
    "stages": 2,
    "psf_size": 12,
    "psf_width": 4,
    "psf_hidden": 16,
}
COARSE_TO_FINE = {"_target_": "deblur.models.CoarseToFine", "channels": 3, "stages": [1, 1], "psf_size": 12} | {
    "widths": [8, 12],
    "coarse_widths": [8, 12],
    "psf_width": 4,
    "psf_hidden": 16,
}


def make(model: dict = DECONVOLVER, **weights: float) -> DeblurModule:
    torch.manual_seed(0)
    parts = {"loss": "torch.nn.L1Loss", "optimizer": "torch.optim.SGD", "scheduler": "deblur.training.schedules.Cosine"}
    return DeblurModule(model, **{key: {"_target_": target} for key, target in parts.items()}, **weights)


def pairs(channels: int = 1, side: int = 28) -> Pairs:
    source = torch.Generator().manual_seed(0)
    sharp, blur = torch.rand(4, channels, side, side, generator=source), Shake(length=9)
    motion = blur.draw(4, (side, side), source)
    return Pairs(sharp, blur.apply(sharp, motion), motion)


def loss_of(module: DeblurModule, batch: Pairs) -> Tensor:
    return module._training_loss(batch)


@pytest.mark.parametrize(("intermediate", "psf"), [(0.0, 0.0), (0.3, 0.0), (0.0, 2.0), (0.25, 0.5)])
def test_the_loss_is_that_of_the_last_image_and_what_the_weights_say_of_the_rest(intermediate, psf):
    module, batch = make(intermediate_weight=intermediate, psf_weight=psf), pairs()
    loss = loss_of(module, batch)
    estimates = module.network.estimates(batch.blurred)
    first, second, last = [(image - batch.sharp).abs().mean() for image in estimates.images]
    truth = crop_psf(batch.motion.psf, 12)
    errors = [((found - truth) ** 2).flatten(1).sum(1).mean() for found in estimates.psfs]
    torch.testing.assert_close(loss, last + intermediate * (first + second) + psf * sum(errors))


def test_small_grey_images_on_the_way_are_held_to_what_the_sharp_ones_look_like_so():
    module, batch = make(COARSE_TO_FINE, intermediate_weight=0.25), pairs(channels=3, side=32)
    loss = loss_of(module, batch)
    *coarse, last = module.network.estimates(batch.blurred).images
    small = batch.sharp.mean(1, keepdim=True).unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    assert len(coarse) == 2
    expected = (last - batch.sharp).abs().mean() + 0.25 * sum((image - small).abs().mean() for image in coarse)
    torch.testing.assert_close(loss, expected)


def test_the_weights_bring_the_psf_nearer_to_the_truth():
    batch = pairs()
    truth = crop_psf(batch.motion.psf, 12)
    errors = {}
    for weight in (0.0, 1.0):
        module = make(psf_weight=weight)
        optimizer = torch.optim.Adam(module.network.parameters(), lr=3e-3)
        for _ in range(40):
            optimizer.zero_grad()
            loss_of(module, batch).backward()
            optimizer.step()
        with torch.no_grad():
            errors[weight] = float((module.network.estimates(batch.blurred).psfs[-1] - truth).square().sum())
    assert errors[1.0] < 0.5 * errors[0.0]


@pytest.mark.parametrize("key", ["intermediate_weight", "psf_weight"])
@pytest.mark.parametrize("value", [-0.1, "much", 0.3])
def test_a_weight_out_of_range_or_of_a_network_without_estimates_is_refused(key, value):
    model = DECONVOLVER if value != 0.3 else {"_target_": "deblur.models.CNN"}
    with pytest.raises(ArgumentError, match=rf"^{key}="):
        make(model, **{key: value})


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    ("model", "weights"), [(CNN, {}), pytest.param(COARSE_TO_FINE, {"psf_weight": 2.0}, marks=pytest.mark.slow)]
)
def test_a_compiled_network_trains_to_the_same_gradients(model, weights):
    batch = pairs(model.get("channels", 1), 28 if model is CNN else 32)
    gradients = []
    for compiled in (False, True):
        module = make(model, compile=compiled, **weights)
        loss_of(module, batch).backward()
        gradients.append({name: parameter.grad for name, parameter in module.network.named_parameters()})
        assert (module._compiled is not None) == compiled
        assert not any("_compiled" in name for name in module.state_dict())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)
