"""Drawings become digits as MNIST has them."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deblur.demo.drawing import draw_digit, read_strokes
from deblur.errors import UsageError

ONE = [[(0.5, 0.2), (0.5, 0.8)]]
SEVEN = [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]]

numbers = st.floats(0, 1)
drawings = st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), min_size=1, max_size=4)


@example([[(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]])  # its centre of mass lies far from its middle
@settings(deadline=None, max_examples=30)
@given(drawings)
def test_a_digit_is_white_on_black_within_the_image(strokes):
    digit = draw_digit(strokes)
    assert digit.shape == (1, 28, 28)
    assert digit.dtype == torch.float32
    assert 0 <= digit.min() <= digit.max() <= 1
    assert digit.sum() > 2
    border = torch.cat([digit[0, 0], digit[0, -1], digit[0, :, 0], digit[0, :, -1]])
    assert border.max() < 0.3  # of a line, at most its edge


@settings(deadline=None, max_examples=30)
@given(drawings)
def test_a_digit_is_the_same_wherever_it_is_drawn_on_the_board(strokes):
    small = [[(x / 2 + 0.25, y / 2 + 0.25) for x, y in stroke] for stroke in strokes]
    moved = [[(x + 0.25, y - 0.25) for x, y in stroke] for stroke in small]
    assert (draw_digit(small) - draw_digit(moved)).abs().mean() < 0.01  # of edges, that fall on a grid


@pytest.mark.parametrize("strokes", [ONE, SEVEN])
def test_a_digit_fills_the_box_of_20_pixels_around_its_centre_of_mass(strokes):
    digit = draw_digit(strokes)[0]
    used = (digit > 0.05).nonzero()
    assert 19 <= (used.amax(0) - used.amin(0) + 1).max() <= 22
    places = torch.arange(28) + 0.5
    centre = torch.stack([(digit.sum(1) * places).sum(), (digit.sum(0) * places).sum()]) / digit.sum()
    torch.testing.assert_close(centre, torch.tensor([14.0, 14.0]), atol=0.3, rtol=0)


def test_lines_are_as_wide_as_mnists_however_small_the_digit_is_drawn():
    small = [[(x / 3, y / 3) for x, y in stroke] for stroke in ONE]
    torch.testing.assert_close(draw_digit(small), draw_digit(ONE), atol=0.1, rtol=0)
    width = draw_digit(ONE)[0, 14].sum()
    assert 2 < width < 3


def test_strokes_are_read_as_the_page_sends_them():
    assert read_strokes(json.dumps(SEVEN)) == SEVEN
    assert read_strokes("[[], [[0, 1]]]") == [[(0.0, 1.0)]]


@pytest.mark.parametrize("text", [None, "", "[]", "[[]]"])
def test_an_empty_board_is_said(text):
    with pytest.raises(UsageError, match="the board is empty"):
        read_strokes(text)


@pytest.mark.parametrize(
    "text",
    [
        "no strokes",
        "7",
        "[[[0.5]]]",
        "[[[0.5, 1.5]]]",
        "[[[NaN, 0.5]]]",
        "[[[0.5, 1e999]]]",
        '{"a": 1}',
        "[" * 200_000,
        json.dumps([[[0.5, 0.5]] * 30_000]),
        "x" * 2_000_000,
        7,
    ],
    ids=range(11),
)
def test_what_is_no_drawing_is_refused_in_one_line(text):
    with pytest.raises(UsageError, match=r"drawing: cannot be read"):
        read_strokes(text)
