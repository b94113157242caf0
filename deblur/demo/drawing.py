"""Drawings from the page as digits like MNIST's."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from deblur.errors import UsageError

SIDE = 28  # of a digit, pixels
_BOX = 20  # that MNIST's digits are fitted into
_PEN = 2.4  # width of a line, as MNIST's are
_FINE = 8  # times as fine a grid is drawn on, then averaged
_LARGEST_SCALE = _BOX / 0.2  # a drawing of less than a fifth of the board stays small
_MOST_CHARACTERS, _MOST_POINTS = 1_000_000, 20_000

Strokes = list[list[tuple[float, float]]]


def read_strokes(text: Any) -> Strokes:
    """The strokes that the page sends, as JSON: lists of points (x, y), x to the right and y down, in [0, 1].

    Raises:
        UsageError: there are none, they are too many, or something else was sent.
    """
    refused = UsageError("drawing: cannot be read; clear the board and draw again")
    empty = UsageError("drawing: the board is empty; draw a digit")
    if text is None or text == "":
        raise empty
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
        raise refused
    try:
        content = json.loads(text)
        strokes = [[(float(x), float(y)) for x, y in stroke] for stroke in content]
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise refused from None
    points = [number for stroke in strokes for point in stroke for number in point]
    if not points:
        raise empty
    if len(points) > 2 * _MOST_POINTS or not all(math.isfinite(number) and 0 <= number <= 1 for number in points):
        raise refused
    return [stroke for stroke in strokes if stroke]


def draw_digit(strokes: Strokes) -> Tensor:
    """The digit drawn by the strokes as MNIST has its digits, (1, 28, 28) in [0, 1]: white on black.

    Its longer side is that of a box of 20 pixels, its centre of mass the middle of the image, its lines are as wide as
    MNIST's whatever the size it was drawn in.

    Source: Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998.
    """
    points = np.array([point for stroke in strokes for point in stroke])
    low, high = points.min(axis=0), points.max(axis=0)
    room = _BOX - _PEN
    scale = min(room / max(float((high - low).max()), 1e-6), _LARGEST_SCALE)
    placed = [(np.array(stroke) - (low + high) / 2) * scale + SIDE / 2 for stroke in strokes]
    fine = _drawn(placed)
    mass = fine.sum()
    centre = np.array([(fine.sum(axis=axis) * (np.arange(len(fine)) + 0.5)).sum() / mass for axis in (0, 1)]) / _FINE
    reach = np.abs((high - low) * scale / 2) + _PEN / 2 + 1  # from the middle; a pixel stays black around all lines
    most = np.maximum(SIDE / 2 - reach, 0)
    shift = np.clip(SIDE / 2 - centre, -most, most)
    fine = _drawn([stroke + shift for stroke in placed])
    small = fine.reshape(SIDE, _FINE, SIDE, _FINE).mean(axis=(1, 3))
    return torch.from_numpy(small).float().unsqueeze(0)


def _drawn(strokes: list[np.ndarray]) -> np.ndarray:
    """Lines with round ends on the fine grid, (28 * fine, 28 * fine), 0 or 1."""
    canvas = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    draw = ImageDraw.Draw(canvas)
    radius = _PEN * _FINE / 2
    for stroke in strokes:
        path = [tuple(point) for point in (stroke * _FINE).tolist()]
        draw.line(path, fill=1, width=round(2 * radius), joint="curve")
        for x, y in path:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    return np.asarray(canvas, dtype=np.float64)
