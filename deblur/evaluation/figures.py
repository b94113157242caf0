"""Pictures of an evaluation: images side by side, a metric against what was varied, spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from deblur.data.pairs import EvaluationPairs
from deblur.evaluation.frequency import SMALLEST, radial_spectrum
from deblur.evaluation.measure import BLURRED, SHARP, blocks, gather, restore
from deblur.evaluation.protocols import Draws
from deblur.evaluation.registry import METRICS
from deblur.figures import restorations_figure

_SPECTRUM_IMAGES = 1000
_SPECTRUM_PICTURES = 16  # whole ones
_BATCH = 256


def against_figure(results: Mapping[str, Any], metric: str = "psnr") -> Figure:
    """The metric of every method against the last label of the conditions, a plot for each value of the first.

    Args:
        results: of an evaluation with one or two labels, the last of them numbers.
        metric: its name.
    """
    *first, last = results["labels"]
    kinds = list(dict.fromkeys(tuple(c["labels"][label] for label in first) for c in results["conditions"]))
    figure = Figure(figsize=(4.2 * len(kinds) + 0.6, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axis, kind in zip(axes, kinds, strict=True):
        there = [c for c in results["conditions"] if tuple(c["labels"][label] for label in first) == kind]
        x = [c["labels"][last] for c in there]
        for method in there[0]["methods"]:
            found = [c["methods"][method]["metrics"].get(metric) for c in there]
            if method == SHARP or None in found:
                continue
            line = axis.plot(x, [f["mean"] for f in found], "o-", ms=3, lw=1.2, label=method)[0]
            axis.fill_between(
                x, [f["low"] for f in found], [f["high"] for f in found], alpha=0.2, color=line.get_color()
            )
        axis.set(xlabel=last, title=", ".join(map(str, kind)))
        axis.grid(alpha=0.3)
    unit = METRICS[metric].unit
    axes[0].set_ylabel(METRICS[metric].title + (f", {unit}" if unit else ""))
    axes[-1].legend(fontsize=7)
    return figure


def spectra_figure(images: Mapping[str, Tensor], title: str) -> Figure:
    """The mean radial power spectrum of each set of images, (N, C, H, W), by name."""
    figure = Figure(figsize=(5.2, 3.6), dpi=100, layout="constrained")
    axis = figure.subplots()
    for name, batch in images.items():
        rings = min(min(batch.shape[-2:]) // 2, 32)
        frequency, spectrum = radial_spectrum(batch, rings)
        axis.plot(frequency, spectrum.mean(dim=0), lw=1.2, label=name, color="black" if name == SHARP else None)
    axis.set(xlabel="spatial frequency, cycles a pixel", ylabel="power, dB")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def evaluation_figures(
    results: Mapping[str, Any],
    pairs: EvaluationPairs | Draws,
    picked: Sequence[tuple[str, int]],
    network: nn.Module,
    network_name: str,
    device: torch.device,
) -> dict[str, Figure]:
    """The figures that an evaluation of this kind has: PSNR `against` what was varied, `images`, and their `spectra`.

    Args:
        results: of the evaluation.
        pairs: of the first condition.
        picked: (best, typical or worst, index) of the images to show.
        network: the first that was evaluated, on the device; its name and the device.
    """
    figures: dict[str, Figure] = {}
    batch_size = 1 if pairs.alone else _BATCH
    if results["labels"] and len(results["conditions"]) > 1 and "benchmark" not in results and picked:
        figures["against"] = against_figure(results)
    if picked:
        shown = gather(pairs, [index for _, index in picked])
        where = ", ".join(f"{key} {value}" for key, value in results["conditions"][0]["labels"].items())
        title = f"{network_name}{': ' + where if where else ''}"
        kinds = [kind for kind, _ in picked]
        made, psf = (None if part is None else part.cpu() for part in restore(network, shown, batch_size, device))
        figures["images"] = restorations_figure(shown, made, title, kinds, psf)
        if min(shown.sharp.shape[-2:]) >= SMALLEST:
            if pairs.alone:
                some = gather(pairs, range(min(len(pairs), _SPECTRUM_PICTURES)))
            else:
                _, some = next(blocks(pairs, _SPECTRUM_IMAGES))
            made = restore(network, some, batch_size, device).images.cpu()
            sets = {SHARP: some.sharp, BLURRED: some.blurred, network_name: made}
            figures["spectra"] = spectra_figure(sets, title)
    return figures
