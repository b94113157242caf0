"""What makes a training faster does not make it another one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from deblur.models import CNN, BlindDeconvolver, CoarseToFine, NAFNet, UNet
from tests.conftest import TINY, only_run, results

NETWORKS = {"unet": UNet(), "cnn": CNN(width=16, depth=4), "nafnet": NAFNet(width=8)}
NETWORKS |= {"deconvolver": BlindDeconvolver(), "coarse_to_fine": CoarseToFine()}


def losses_and_gradients(network: nn.Module, blurred: Tensor, sharp: Tensor) -> tuple[Tensor, list[Tensor]]:
    restored = network(blurred)
    (restored - sharp).square().mean().backward()
    return restored.detach(), [weight.grad for weight in network.parameters()]


def images(seed: int) -> Tensor:
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_changes_neither_images_nor_gradients(name):
    plain, fast = copy.deepcopy(NETWORKS[name]), copy.deepcopy(NETWORKS[name]).to(memory_format=torch.channels_last)
    blurred, sharp = images(0), images(1)
    expected, gradients = losses_and_gradients(plain, blurred, sharp)
    found, others = losses_and_gradients(fast, blurred.contiguous(memory_format=torch.channels_last), sharp)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_stays_within_a_hundredth_of_white(name):
    network, blurred = NETWORKS[name], images(0)
    with torch.no_grad():
        expected = network(blurred)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(blurred)
    assert 0 < (found.float() - expected).abs().max() < 0.01


def test_a_training_in_bfloat16_is_as_good_to_a_twentieth_of_a_decibel(door, tmp_path):
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        assert door(*TINY, f"trainer.precision={precision}", f"output_root={precision}").code == 0
        found[precision] = results(only_run(tmp_path / precision))["metrics"]["test/psnr"]
    assert found["bf16-mixed"] != found["32-true"]
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], abs=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_digits_on_the_device_come_in_the_same_batches(door, tmp_path):
    found = [
        door(*TINY, "trainer=gpu", f"data.on_device={there}", f"output_root={there}").code
        for there in ("true", "false")
    ]
    assert found == [0, 0]
    one, other = (results(only_run(tmp_path / there))["metrics"] for there in ("true", "false"))
    assert one["test/psnr"] == pytest.approx(other["test/psnr"], abs=1e-3)
