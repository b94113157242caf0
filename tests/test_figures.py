"""Figures as objects: each has the plots that it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from deblur.blur import Camera, Line, RandomWalk, Shake, Shake3D
from deblur.data.pairs import Pairs
from deblur.figures import blur_figure, comparison_figure, gallery_figure, restorations_figure


@pytest.fixture
def pairs() -> Pairs:
    source = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, 1, 28, 28, generator=source)
    blur = Shake(length=5)
    motion = blur.draw(3, (28, 28), source)
    return Pairs(sharp, blur.apply(sharp, motion), motion)


def texts(figure: Figure) -> list[str]:
    (axis,) = figure.axes
    return [text.get_text() for text in axis.texts]


def pictures(figure: Figure) -> list[np.ndarray]:
    """The images from above, each row from the left."""
    (axis,) = figure.axes
    placed = sorted(axis.images, key=lambda image: (round(image.get_extent()[3], 3), image.get_extent()[0]))
    return [np.asarray(image.get_array()) for image in placed]


def test_gallery_has_a_row_for_each_blur_and_a_column_for_each_motion():
    source = torch.Generator().manual_seed(0)
    blurs = {"line": Line(length=7), "random_walk": RandomWalk()}
    motions = {name: blur.draw(4, (28, 28), source) for name, blur in blurs.items()}
    figure = gallery_figure(motions, "gallery")
    shown = pictures(figure)
    assert len(shown) == 2 * 4
    psf = motions["line"].psf[2, 0]
    np.testing.assert_allclose(shown[2], psf / psf.max(), atol=1e-6)
    assert texts(figure)[:3] == ["gallery", *blurs]
    (axis,) = figure.axes
    assert len(axis.collections) == 2 * 4  # a trajectory each
    left, right, bottom, top = min(axis.images, key=lambda image: image.get_extent()[0]).get_extent()
    x, y = axis.collections[0].get_offsets()[0]
    middle = ((left + right) / 2, (top + bottom) / 2)
    side = shown[0].shape[0]
    offset = motions["line"].trajectory[0, 0].numpy() / side * (right - left)
    np.testing.assert_allclose((x - middle[0], y - middle[1]), offset[::-1], atol=1e-6)


def test_comparison_has_a_row_for_each_method_with_the_psnr_of_each_image(pairs: Pairs):
    figure = comparison_figure(pairs, {"one": pairs.blurred, "exact": pairs.sharp}, "comparison", names=["a", "b", "c"])
    words = texts(figure)
    assert words[:6] == ["comparison", "sharp", "blurred", "one", "exact", "PSF"]
    assert words[6:9] == words[9:12]
    assert words[12:15] == ["100.0 dB"] * 3
    assert words[15:] == ["a", "b", "c"]


def test_figures_of_a_run_have_their_rows(pairs: Pairs):
    figure = restorations_figure(pairs, pairs.blurred, "restored")
    assert texts(figure)[1:6] == ["sharp", "blurred", "restored", "error", "PSF"]
    shown = pictures(figure)
    assert len(shown) == 5 * 3
    np.testing.assert_allclose(shown[1], pairs.sharp[1, 0], atol=1e-6)
    np.testing.assert_allclose(shown[8], pairs.blurred[2, 0], atol=1e-6)
    assert texts(blur_figure(pairs, "blur"))[1:5] == ["trajectory", "PSF", "sharp", "blurred"]


@pytest.mark.parametrize(("side", "rotation", "note"), [(28, 60, "28x28"), (200, 4, "200x200, motion x15")])
def test_figure_of_a_blur_that_turns_shows_the_paths_of_nine_places_and_what_the_camera_drew(side, rotation, note):
    source, size = torch.Generator().manual_seed(0), (side, side)
    blur = Shake3D(length=5, rotation=rotation, camera=Camera(exposure=0.5, full_well=3000))
    sharp, motion = torch.rand(2, 1, *size, generator=source), blur.draw(2, size, source)
    figure = blur_figure(Pairs(sharp, blur.apply(sharp, motion, source), motion), "blur")
    words = texts(figure)
    assert words[1:6] == ["trajectory", "across the image", "PSF at the centre", "sharp", "blurred"]
    assert words.count("exp. 0.50, 1,500 e⁻") == 2
    assert note in words
    (axis,) = figure.axes
    assert len(axis.collections) == 2 * (9 + 1)  # paths


def test_a_picture_that_is_not_square_keeps_its_shape():
    source = torch.Generator().manual_seed(0)
    sharp, blur = torch.rand(2, 3, 20, 40, generator=source), Shake(length=5)
    motion = blur.draw(2, (20, 40), source)
    (axis,) = restorations_figure(Pairs(sharp, sharp, motion), sharp, "wide").axes
    left, right, bottom, top = axis.images[0].get_extent()
    assert (right - left) == pytest.approx(2 * (bottom - top))
    assert axis.images[0].get_array().shape == (20, 40, 3)


def test_a_figure_is_drawn_to_a_picture(pairs: Pairs, tmp_path):
    restorations_figure(pairs, pairs.blurred, "restored").savefig(tmp_path / "figure.png")
    picture = np.asarray(Image.open(tmp_path / "figure.png").convert("L"))
    assert picture.shape[0] > 400
    assert picture.std() > 20
