"""Tasks around any model: what goes in, what comes out, what is trained and what is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deblur.blur import Shake
from deblur.blur.psf import convolve
from deblur.errors import ArgumentError
from deblur.models import CNN, MLP, BlindDeconvolver, CoarseToFine, UNet
from deblur.models.estimates import estimates_psf, restore, takes_psf
from deblur.tasks import Blind, Kernel, NonBlind
from deblur.tasks.kernel import KernelNetwork

SMALL = {
    "mlp": lambda channels: MLP(28, channels, width=8, depth=1),
    "cnn": lambda channels: CNN(channels, width=8, depth=2),
    "unet": lambda channels: UNet(channels, widths=[4, 8], blocks=[1, 1]),
    "deconvolver": lambda channels: BlindDeconvolver(
        channels, widths=[4, 8], first_widths=[4, 8], psf_size=8, stages=1
    ),
    "coarse_to_fine": lambda channels: CoarseToFine(
        channels, widths=[4, 8], coarse_widths=[4, 8], psf_size=8, psf_width=4, psf_hidden=8, stages=[1, 1]
    ),
}


def batch(channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Sharp, blurred, PSFs."""
    source = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, channels, 28, 28, generator=source)
    psf = Shake(length=7).draw(3, (28, 28), source).psf
    return sharp, convolve(sharp, psf), psf


def nonblind(model: str, channels: int = 1, filters: int = 3, **more) -> nn.Module:
    torch.manual_seed(0)
    task = NonBlind(channels, filters=filters, **more)
    assert task.channels == channels * (1 + filters)
    return task.around(SMALL[model](task.channels))


def estimator(model: str = "cnn") -> dict:
    torch.manual_seed(1)
    return {"model": SMALL[model](1), "task": Kernel(1, psf_size=9, width=4, filters=2)}


@pytest.mark.parametrize("model", SMALL)
def test_blind_is_the_model_itself(model):
    network = SMALL[model](1)
    assert Blind().around(network) is network
    assert Blind.channels is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model", ["mlp", "cnn", "unet"])
def test_kernel_leaves_the_image_to_the_model_and_finds_a_psf_beside_it(model, channels):
    _, blurred, _ = batch(channels)
    inner = SMALL[model](channels)
    network = Kernel(channels, psf_size=9, width=4, filters=2).around(inner)
    assert torch.equal(network(blurred), inner(blurred))
    restored = restore(network, blurred)
    assert torch.equal(restored.images, inner(blurred))
    assert restored.psf.shape == (3, 1, 9, 9)
    restored.psf.square().sum().backward()  # the PSF's loss trains the image's model as well
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("model", ["deconvolver", "coarse_to_fine"])
def test_kernel_takes_a_model_that_finds_psfs_as_it_is(model):
    network = SMALL[model](1)
    assert Kernel(1, psf_size=9).around(network) is network
    assert restore(network, batch()[1]).psf.shape == (3, 1, 8, 8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model", SMALL)
def test_nonblind_makes_of_blurred_images_and_psfs_images_of_the_same_shape(model, channels):
    _, blurred, psf = batch(channels)
    network = nonblind(model, channels, filters=2)
    assert takes_psf(network)
    assert not estimates_psf(network)
    restored = network(blurred, psf)
    assert restored.shape == blurred.shape
    assert not torch.allclose(restored, network(blurred, psf.flip(0)))
    restored.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_before_training_a_model_without_residual_gives_the_mean_of_the_filters():
    _, blurred, psf = batch(3)
    network = nonblind("cnn", 3, filters=2)
    nn.init.zeros_(network.model.layers[-1].weight)
    nn.init.zeros_(network.model.layers[-1].bias)
    made = network.wiener(blurred, psf)
    torch.testing.assert_close(network(blurred, psf), (made[:, :3] + made[:, 3:]) / 2)


def test_with_an_estimator_the_network_is_blind_and_uses_its_psf():
    _, blurred, _ = batch()
    found = estimator()
    network = nonblind("cnn", psf="estimated", estimator="a run", estimator_network=found)
    assert not takes_psf(network)
    restored = restore(network, blurred)
    expected = found["task"].around(found["model"])
    assert isinstance(expected, KernelNetwork)
    assert torch.equal(restored.images, network(blurred))
    assert torch.equal(restored.images, network.network(blurred, restored.psf))
    torch.testing.assert_close(restored.psf, restore(network.estimator, blurred).psf)


def test_the_estimator_is_frozen_and_never_in_training_mode():
    _, blurred, _ = batch()
    network = nonblind("cnn", psf="estimated", estimator="a run", estimator_network=estimator("deconvolver"))
    network.train()
    assert network.network.training
    assert not any(module.training for module in network.estimator.modules())
    network(blurred).square().mean().backward()
    assert all(parameter.grad is None for parameter in network.estimator.parameters())
    assert all(parameter.grad is not None for parameter in network.network.parameters())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Kernel(1).around(nn.Identity()), "psf_size=null"),
        (lambda: Kernel(0, psf_size=9), "channels=0"),
        (lambda: Kernel(1, psf_size=9, width=0), "width=0"),
        (lambda: NonBlind(1, filters=0), "filters=0"),
        (lambda: NonBlind(1, psf="guessed"), "psf=guessed: must be true or estimated"),
        (lambda: NonBlind(1, psf=False), "psf=false"),
        (lambda: NonBlind(1, psf="estimated"), "estimator=null: must be a run"),
        (lambda: NonBlind(1, estimator="a run"), "estimator=a run: must be null"),
        (lambda: NonBlind(1, psf="estimated", estimator="a run"), "estimator_network=null"),
        (lambda: NonBlind(1, psf="estimated", estimator="a run", estimator_network={"model": 3}), "estimator_network"),
    ],
)
def test_what_a_task_cannot_do_is_refused(make, said):
    with pytest.raises(ArgumentError, match=f"^{said}"):
        make()
