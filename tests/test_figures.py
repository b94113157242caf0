"""Figures as objects: each has the plots that it promises."""

from __future__ import annotations

import pytest
import torch

from deblur.blur import Line, RandomWalk, Shake
from deblur.data.pairs import Pairs
from deblur.figures import blur_figure, comparison_figure, gallery_figure, restorations_figure


@pytest.fixture
def pairs() -> Pairs:
    source = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, 1, 28, 28, generator=source)
    blur = Shake(length=5)
    motion = blur.draw(3, (28, 28), source)
    return Pairs(sharp, blur.apply(sharp, motion), motion)


def test_gallery_has_a_row_for_each_blur_and_a_column_for_each_motion():
    source = torch.Generator().manual_seed(0)
    blurs = {"line": Line(length=7), "random_walk": RandomWalk()}
    figure = gallery_figure({name: blur.draw(4, (28, 28), source) for name, blur in blurs.items()}, "gallery")
    assert len(figure.axes) == 2 * 4
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == list(blurs)


def test_comparison_has_a_row_for_each_method_with_the_psnr_of_each_image(pairs: Pairs):
    figure = comparison_figure(pairs, {"one": pairs.blurred, "exact": pairs.sharp}, "comparison")
    assert [axis.get_ylabel() for axis in figure.axes[::3]] == ["sharp", "blurred", "one", "exact", "PSF"]
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[3:6] == titles[6:9]
    assert titles[9:12] == ["100.0 dB"] * 3


def test_figures_of_a_run_have_their_rows(pairs: Pairs):
    rows = [axis.get_ylabel() for axis in restorations_figure(pairs, pairs.blurred, "restored").axes[::3]]
    assert rows == ["sharp", "blurred", "restored", "error", "PSF"]
    assert [axis.get_ylabel() for axis in blur_figure(pairs, "blur").axes[::3]] == [
        "trajectory",
        "PSF",
        "sharp",
        "blurred",
    ]
