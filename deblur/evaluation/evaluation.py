"""An evaluation that has been made: its results, and the images behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from deblur.data.pairs import EvaluationPairs, Pairs
from deblur.evaluation.baselines import Baseline
from deblur.evaluation.contenders import Contender
from deblur.evaluation.figures import evaluation_figures
from deblur.evaluation.measure import Values, gather, restore
from deblur.evaluation.protocols import Draws
from deblur.evaluation.results import picked_images


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, and what it was found on.

    Attributes:
        results: as in the JSON file.
        contenders: the runs.
        pairs: of the first condition.
        found: name of a metric -> (N,), by method, of each condition.
        methods: of the first condition, the baselines with the data's padding, by name.
        device: where the networks are.
    """

    results: dict[str, Any]
    contenders: list[Contender]
    pairs: EvaluationPairs | Draws
    found: list[dict[str, Values]]
    methods: dict[str, tuple[Baseline, str]]
    device: torch.device

    @property
    def values(self) -> dict[str, Values]:
        """Those of the first condition."""
        return self.found[0]

    def figures(self) -> dict[str, Figure]:
        """The figures that an evaluation of this kind has, of the first run; see `evaluation_figures`."""
        first = self.contenders[0]
        picked = picked_images(self.values, first.name)
        return evaluation_figures(self.results, self.pairs, picked, first.network, first.name, self.device)

    def restored(self, images: Sequence[int]) -> tuple[Pairs, dict[str, Tensor]]:
        """The pairs of these numbers, and what each network and baseline makes of them, (B, C, H, W) by name."""
        pairs = gather(self.pairs, images)
        count = len(pairs.sharp)
        made = {one.name: restore(one.network, pairs, count, self.device) for one in self.contenders}
        restored = {name: one.images.cpu() for name, one in made.items()}
        for name, (baseline, padding) in self.methods.items():
            restored[name] = baseline.restore(pairs.blurred, pairs.motion.psf, padding)
        return pairs, restored
