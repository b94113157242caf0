"""A figure of small pictures in rows and columns, all of them in one plot: many times faster than a plot for each."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

_CELL, _GAP = 1.0, 0.05  # inches
_CAPTION = 0.14  # above a row of pictures that have one
_LEFT, _TOP, _BELOW = 0.65, 0.34, 0.12


class Sheet:
    """Rows of square cells, each with a picture or a trajectory, captions above them and a label at the left of a row.

    Args:
        rows: names of the rows, from above.
        columns: cells of a row.
        title: stands above all.
        captioned: names of the rows whose pictures have captions.
    """

    def __init__(self, rows: list[str], columns: int, title: str, captioned: tuple[str, ...] = ()) -> None:
        self.columns = columns
        self._tops: dict[str, float] = {}
        y = _TOP if title else _GAP
        for name in rows:
            y += _CAPTION if name in captioned else 0.0
            self._tops[name] = y
            y += _CELL + _GAP
        width, height = _LEFT + columns * (_CELL + _GAP), y + _BELOW
        self.figure = Figure(figsize=(width, height), dpi=110)
        self.axis = self.figure.add_axes((0, 0, 1, 1))
        self.axis.axis("off")
        self.axis.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axis.text(width / 2, 0.2, title, ha="center", va="center", fontsize=10)
        for name, top in self._tops.items():
            size = 9 if len(name) <= 12 else 7
            self.axis.text(
                _LEFT - 0.12,
                top + _CELL / 2,
                textwrap.fill(name, 17),
                ha="center",
                va="center",
                rotation=90,
                fontsize=size,
            )

    def show(self, row: str, column: int, image: np.ndarray, cmap: str = "gray", high: float = 1.0) -> None:
        """Show an image, (H, W) or (H, W, 3) in [0, 1]; the longer side fills the cell, `high` is the map's end."""
        height, width = (side / max(image.shape[:2]) * _CELL for side in image.shape[:2])
        left, top = self._corner(row, column)
        left, top = left + (_CELL - width) / 2, top + (_CELL - height) / 2
        extent = (left, left + width, top + height, top)
        self.axis.imshow(image, cmap=cmap, vmin=0, vmax=high, interpolation="nearest", extent=extent, aspect="auto")

    def trace(self, row: str, column: int, points: np.ndarray, reach: float, size: float = 5) -> None:
        """Draw a trajectory, (T, 2) offsets (y, x) of at most `reach` from the cell's middle, from dark to bright."""
        left, top = self._corner(row, column)
        y, x = (
            corner + _CELL / 2 + offsets / reach * _CELL / 2
            for corner, offsets in zip((top, left), points.T, strict=True)
        )
        self.axis.plot(x, y, color="0.75", lw=0.8)
        self.axis.scatter(x, y, c=np.linspace(0, 1, len(points)), s=size, cmap="viridis", zorder=3)

    def frame(self, row: str, column: int) -> None:
        """Draw the cell's border."""
        (left, top), side = self._corner(row, column), _CELL
        corners = ((0, 0), (side, 0), (side, side), (0, side), (0, 0))
        self.axis.plot([left + x for x, _ in corners], [top + y for _, y in corners], color="0.3", lw=0.6)

    def caption(self, row: str, column: int, text: str, size: float = 7) -> None:
        """Write above a picture of a row that is captioned."""
        left, top = self._corner(row, column)
        self.axis.text(left + _CELL / 2, top - 0.02, text, ha="center", va="bottom", fontsize=size)

    def note(self, row: str, text: str) -> None:
        """Write into the lower left corner of a row's first cell."""
        left, top = self._corner(row, 0)
        self.axis.text(left + 0.03, top + _CELL - 0.03, text, ha="left", va="bottom", fontsize=6)

    def _corner(self, row: str, column: int) -> tuple[float, float]:
        return _LEFT + column * (_CELL + _GAP), self._tops[row]
