"""LPIPS with a random network in place of the trained one: that it is torchmetrics', and what it refuses."""

from __future__ import annotations

import socket
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

from deblur.errors import ArgumentError, UsageError
from deblur.evaluation import perceptual
from deblur.evaluation.evaluate import evaluate_runs
from deblur.evaluation.perceptual import lpips

FILE = Path(torchvision.models.AlexNet_Weights.DEFAULT.url).name


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for torch.hub's weights, no network, and nothing kept."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(perceptual, "first_to_answer", lambda *_: None)
    perceptual._network.cache_clear()
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path / "checkpoints"
    perceptual._network.cache_clear()


@pytest.fixture
def random_weights(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AlexNet's features with random weights."""
    (checkpoints / FILE).touch()
    with torch.device("meta"):
        features = torchvision.models.AlexNet().features
    features.to_empty(device="cpu")
    torch.manual_seed(0)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    monkeypatch.setattr(torchvision.models, "alexnet", lambda weights: SimpleNamespace(features=features))


def pair(channels: int = 3) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, channels, 64, 80, generator=source)
    strength = torch.tensor([0.1, 0.4, 0.8])[:, None, None, None]
    return (sharp + strength * torch.randn(sharp.shape, generator=source)).clamp(0, 1), sharp


@pytest.mark.usefixtures("random_weights")
def test_distance_of_each_pair_is_torchmetrics():
    images, sharp = pair()
    ours = lpips(images, sharp)
    expected = learned_perceptual_image_patch_similarity(
        images, sharp, net_type="alex", reduction="none", normalize=True
    )
    torch.testing.assert_close(ours, expected)
    assert (ours.diff() > 0.001).all()
    assert lpips(sharp, sharp).tolist() == [0, 0, 0]
    assert torch.equal(lpips(images * 3 - 1, sharp), lpips((images * 3 - 1).clamp(0, 1), sharp))


@pytest.mark.usefixtures("random_weights")
def test_grey_photograph_is_one_of_three_equal_channels():
    images, sharp = pair(1)
    assert torch.equal(lpips(images, sharp), lpips(images.repeat(1, 3, 1, 1), sharp.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (1, 3, 63, 100), (1, 4, 80, 80)])
def test_digits_and_other_channels_are_refused_before_anything_is_loaded(shape):
    with pytest.raises(ArgumentError, match="photographs of 1 or 3 channels and at least 64x64 pixels"):
        lpips(torch.zeros(shape), torch.zeros(shape))


def test_weights_that_cannot_be_had_are_one_line():
    with pytest.raises(
        UsageError, match=r"lpips: AlexNet's weights are not there, and https://.* cannot be reached"
    ) as error:
        lpips(*pair())
    assert "\n" not in str(error.value)
    assert FILE in str(error.value)


def test_download_that_breaks_off_is_one_line(monkeypatch):
    def broken(weights: object) -> None:
        raise urllib.error.URLError("timed out")

    monkeypatch.setattr(perceptual, "first_to_answer", lambda urls: urls[0])
    monkeypatch.setattr(torchvision.models, "alexnet", broken)
    with pytest.raises(UsageError, match=r"lpips: .*failed .*timed out"):
        lpips(*pair())


def test_two_threads_set_it_up_once_and_leave_the_process_as_it_was(random_weights, monkeypatch):
    alexnet, built = torchvision.models.alexnet, []

    def slow(weights: object) -> nn.Module:
        built.append(threading.current_thread())
        time.sleep(0.3)
        return alexnet(weights)

    monkeypatch.setattr(torchvision.models, "alexnet", slow)
    screen, timeout, found = sys.stderr, socket.getdefaulttimeout(), []
    start = threading.Barrier(2)

    def judge() -> None:
        start.wait()
        found.append(lpips(*pair()))

    threads = [threading.Thread(target=judge) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert torch.equal(*found)
    assert sys.stderr is screen
    assert socket.getdefaulttimeout() == timeout


def test_an_evaluation_sets_it_up_before_its_threads_start(random_weights, runs, monkeypatch):
    alexnet, built = torchvision.models.alexnet, []
    monkeypatch.setattr(
        torchvision.models, "alexnet", lambda weights: built.append(threading.current_thread()) or alexnet(weights)
    )
    torch.set_num_threads(2)
    try:
        data = "data._target_=tests.evaluation.made_up.Photograph"
        found = evaluate_runs(runs / "mine", data, "metrics=[lpips]", "batch_size=3", "accelerator=cpu")
    finally:
        torch.set_num_threads(1)
    assert built == [threading.main_thread()]
    assert len(found.values["mine"]["lpips"]) == 6


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 half a file"])
def test_damaged_weights_are_one_line(checkpoints, monkeypatch, content):
    (checkpoints / FILE).write_bytes(content)
    monkeypatch.setattr(torchvision.models, "alexnet", lambda weights: weights.get_state_dict(progress=False))
    with pytest.raises(UsageError, match=rf"lpips: .*{FILE} cannot be read; delete it") as error:
        lpips(*pair())
    assert "\n" not in str(error.value)
