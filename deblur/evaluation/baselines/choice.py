"""The parameter of a baseline, chosen on validation images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from deblur.data.pairs import Pairs
from deblur.evaluation.baselines.base import Baseline, check_inputs, chunks
from deblur.metrics import image_metrics


class Choice(NamedTuple):
    """A baseline with the chosen parameter, and the mean PSNR in dB that each value of its grid reached."""

    baseline: Baseline
    psnr: dict[float, float]

    @property
    def at_the_edge(self) -> bool:
        """Whether the chosen value is the grid's first or last: a better one may lie beyond."""
        return self.baseline.value in (min(self.psnr), max(self.psnr))


@torch.no_grad()
def choose(
    kind: type[Baseline], pairs: Pairs, padding: str = "zeros", advance: Callable[[int], object] | None = None
) -> Choice:
    """The baseline of this kind whose parameter, of those in its grid, has the highest mean PSNR on the pairs.

    Args:
        kind: `Wiener`, `RichardsonLucy` or `TotalVariation`.
        pairs: of validation images, never those that the baseline is then judged by.
        padding: of the blur that made them: `zeros`, `reflect` or `circular`.
        advance: called with the number of images done since its last call: a progress bar.

    Raises:
        ArgumentError: the pairs or the padding are not what `Baseline.restore` takes.
    """
    blurred, psf = check_inputs(pairs.blurred, pairs.motion.psf, padding)
    totals = dict.fromkeys(kind.grid, 0.0)
    for chunk in chunks(blurred, psf):
        sharp = pairs.sharp[chunk]
        for value, restored in kind.sweep(blurred[chunk], psf[chunk], padding, kind.grid):
            totals[value] += image_metrics(restored, sharp)["psnr"].double().sum().item()
        if advance is not None:
            advance(len(chunk))
    psnr = {value: total / len(blurred) for value, total in totals.items()}
    return Choice(kind(max(psnr, key=psnr.__getitem__)), psnr)
