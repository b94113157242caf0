"""What the page shows, without the page: blurred and restored images as a function of the seed."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import convolve2d
from torch import Tensor, nn

import deblur
from deblur.demo.drawing import draw_digit
from deblur.demo.pictures import result_html
from deblur.demo.play import BLURS, NONE, make_blur, play
from deblur.errors import UsageError
from deblur.metrics import image_metrics
from deblur.models import MLP
from deblur.seeding import generator
from deblur.tasks.nonblind import NonBlindNetwork
from deblur.training.restorer import Restorer
from tests.conftest import ROOT

DIGIT = draw_digit([[(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]])
PHOTO = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))
MOVING = [kind for kind in BLURS if kind != NONE]


class Half(nn.Module):
    """Darkens images; of the wrong colours it takes none."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, blurred: Tensor) -> Tensor:
        assert blurred.shape[1] == self.channels
        return blurred / 2


def played(image: Tensor, kind: str = "shake", length: float = 9, noise: float = 0.0, seed: int = 0, **changed):
    network, channels = changed.get("network", Restorer(Half(1))), changed.get("channels", 1)
    return play(image, make_blur(kind, length, noise), network, channels, generator("demo", seed))


@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("image", [DIGIT, PHOTO], ids=["digit", "photograph"])
def test_the_same_seed_gives_the_same_and_another_one_another(image, kind):
    one, same, other = (played(image, kind, noise=0.01, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.blurred, same.blurred)
    assert torch.equal(one.trajectory, same.trajectory)
    assert not torch.equal(one.trajectory, other.trajectory)
    assert one.psf.sum() == pytest.approx(1, abs=1e-5)
    assert one.psf.shape[0] % 2 == 1


@pytest.mark.parametrize("kind", MOVING)
def test_a_photograph_is_blurred_by_the_psf_that_is_shown_with_nothing_made_up_at_its_borders(kind):
    made = played(PHOTO, kind)
    margin = made.psf.shape[0] // 2
    expected = np.stack([convolve2d(plane.numpy(), made.psf.numpy(), mode="valid") for plane in PHOTO])
    np.testing.assert_allclose(made.blurred.numpy(), expected, atol=1e-5)
    assert torch.equal(made.sharp, PHOTO[:, margin:-margin, margin:-margin])


def test_a_digit_stays_whole_and_the_figures_are_those_of_the_evaluation():
    made = played(DIGIT, noise=0.02)
    assert torch.equal(made.sharp, DIGIT)
    for figures, image in ((made.before, made.blurred), (made.after, made.restored)):
        judged = image_metrics(image[None], DIGIT[None])
        assert figures == {name: pytest.approx(judged[name].item()) for name in ("psnr", "ssim")}


def test_the_length_is_that_of_the_path_and_of_random_walks_the_mean_one():
    for kind in MOVING[:-1]:
        path = played(DIGIT, kind, length=12).trajectory
        assert path.diff(dim=0).norm(dim=1).sum() == pytest.approx(12, rel=0.03)
    blur = make_blur("random_walk", 15, 0)
    assert blur.step == pytest.approx(1.96, abs=0.01)  # the benchmark's
    paths = blur.draw(4000, (28, 28), generator("demo")).trajectory
    assert paths.diff(dim=1).norm(dim=2).sum(dim=1).mean() == pytest.approx(15, rel=0.02)


def test_a_picture_that_is_blurred_already_is_only_restored():
    made = played(PHOTO, NONE)
    assert made.sharp is None
    assert made.trajectory is None
    assert made.psf is None
    assert made.before == made.after == {}
    assert torch.equal(made.blurred, PHOTO)
    assert not torch.equal(made.restored, PHOTO)


def test_colour_goes_through_a_network_for_grey_and_a_digit_through_one_for_colour():
    luminance = (PHOTO * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    torch.testing.assert_close(played(PHOTO, NONE).restored, (PHOTO - luminance / 2).clamp(0, 1))
    made = played(DIGIT, network=Restorer(Half(3)), channels=3)
    torch.testing.assert_close(made.restored, made.blurred / 2)


def test_what_does_not_fit_is_one_clear_line():
    with pytest.raises(UsageError, match=r"this run does not take the picture: this MLP was built for images of"):
        played(PHOTO, network=Restorer(MLP(width=4)))
    with pytest.raises(UsageError, match=r"length=40: must be at most 26 for images of 28x28"):
        played(DIGIT, length=40)
    with pytest.raises(UsageError, match=r"length: such motions leave less than 16 pixels of 24x90"):
        played(PHOTO[:, :24], "line", length=20)
    for kind, length, noise, said in [
        ("shakes", 9, 0, "did you mean shake"),
        ("shake", 1000, 0, "length=1000"),
        ("shake", None, 0, "length=null"),
        ("line", 9, -1, "noise=-1"),
        ("line", 9, float("nan"), "noise=nan"),
    ]:
        with pytest.raises(UsageError, match=said):
            make_blur(kind, length, noise)


def test_a_network_that_takes_the_psf_is_given_the_true_one_and_refuses_where_there_is_none():
    given = {"network": Restorer(NonBlindNetwork(nn.Identity(), 1, 3)), "channels": 1}
    for kind in MOVING:
        made = played(DIGIT, kind, **given)
        assert made.after["psnr"] > made.before["psnr"]
    with pytest.raises(UsageError, match="blur=none: this run is given the PSF"):
        played(DIGIT, NONE, **given)


@pytest.mark.slow
def test_the_pretrained_networks_restore_what_they_were_trained_for():
    shake = deblur.load(ROOT / "outputs/pretrained/shake")
    made = played(DIGIT, network=shake)
    assert made.after["psnr"] > made.before["psnr"] + 5
    assert made.found.shape[0] % 2 == 1
    photographs = deblur.load(ROOT / "outputs/pretrained/photographs")
    for image in (DIGIT, PHOTO):
        assert played(image, network=photographs, channels=3).restored.shape[0] == image.shape[0]


def test_the_html_holds_all_pictures_and_figures_and_escapes_what_it_is_given():
    made = played(DIGIT)
    text = result_html(made, "<b>title</b> & more")
    assert "&lt;b&gt;title&lt;/b&gt; &amp; more" in text
    names = re.findall(r'alt="([^"]*)"', text)
    assert names == ["sharp", "blurred", "restored", "trajectory", "PSF"]
    assert f"PSNR {made.before['psnr']:.2f} dB, SSIM {made.before['ssim']:.3f}" in text
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]*)", text)]
    np.testing.assert_array_equal(np.asarray(pictures[0]), (DIGIT[0] * 255).round().byte().numpy())
    assert {"http:", "https:"}.isdisjoint(re.findall(r"https?:", text))
    restored_only = result_html(played(PHOTO, NONE), "")
    assert re.findall(r'alt="([^"]*)"', restored_only) == ["blurred", "restored"]
    assert "PSNR" not in restored_only
