"""What was measured as plain containers: means, intervals, worst images, the benchmark's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from deblur.data.module import DeblurDataModule
from deblur.evaluation import baselines as classical
from deblur.evaluation.contenders import Contender
from deblur.evaluation.measure import BLURRED, SHARP, Values
from deblur.evaluation.protocols import PUBLISHED, Condition, Protocol, Tremor
from deblur.evaluation.registry import Metric
from deblur.evaluation.statistics import extremes, summarize
from deblur.seeding import generator

_WORST = 5  # images that are named


def results_of(
    protocol: Protocol,
    conditions: Sequence[Condition],
    found: Sequence[Mapping[str, Values]],
    chosen: Sequence[Mapping[str, classical.Choice]],
    metrics: Sequence[Metric],
    contenders: Sequence[Contender],
    data: DeblurDataModule,
    count: int,
) -> dict[str, Any]:
    """All that the report shows, as plain containers: the same for the same evaluation, to the byte."""
    networks = [contender.name for contender in contenders]
    described = []
    for number, (condition, values, choices) in enumerate(zip(conditions, found, chosen, strict=True)):
        methods: dict[str, Any] = {}
        flat = {(name, key): value for name, side in values.items() for key, value in side.items()}
        summaries = summarize(flat, generator("bootstrap", number))
        for name in sorted(values, key=lambda name: name == SHARP):  # sharp last
            methods[name] = {"metrics": {key: summaries[name, key]._asdict() for key in values[name]}}
            if name in choices:
                choice = choices[name]
                methods[name]["parameter"] = [choice.baseline.parameter, choice.baseline.value]
                methods[name]["parameter_at_the_edge"] = choice.at_the_edge
            numbered = not isinstance(protocol, Tremor)  # the benchmark's are drawn anew
            if name in networks and "psnr" in values[name] and numbered:
                worst = extremes(values[name]["psnr"], "higher", _WORST).worst
                methods[name]["worst"] = [{"image": i, "psnr": float(values[name]["psnr"][i])} for i in worst]
        described.append({"labels": condition.labels, "methods": methods})
    results = {
        "title": protocol.heading(data),
        "data": data.origin,
        "images": count,
        "labels": list(conditions[0].labels),
        "metrics": [metric.name for metric in metrics],
        "parameters": {contender.name: contender.parameters for contender in contenders},
        "conditions": described,
    }
    if isinstance(protocol, Tremor):
        results["benchmark"] = {"rows": _benchmark(found, contenders)}
    return results


def _benchmark(found: Sequence[Mapping[str, Values]], contenders: Sequence[Contender]) -> list[dict[str, Any]]:
    """The published rows and ours, the worst first."""
    rows = [
        {"method": row.method, "mse": row.mse, "std": row.std, "parameters": row.parameters, "psnr": None, "ssim": None}
        for row in PUBLISHED
    ]
    parameters = {contender.name: f"{contender.parameters / 1e6:.2f} M" for contender in contenders}
    for name in found[0]:
        if name == SHARP:
            continue
        means = {key: torch.stack([values[name][key].double().mean() for values in found]) for key in found[0][name]}
        label = "blurred input, measured here" if name == BLURRED else f"{name}, measured here"
        mse = means["mse"]
        rows.append(
            {
                "method": label,
                "mse": float(mse.mean()),
                "std": float(mse.std(correction=0)),
                "parameters": parameters.get(name, ""),
            }
            | {key: float(means[key].mean()) if key in means else None for key in ("psnr", "ssim")}
        )
    return sorted(rows, key=lambda row: -row["mse"])


def picked_images(found: Mapping[str, Values], name: str) -> list[tuple[str, int]]:
    """(what it is, index) of the images of the panel: the best, typical and worst by PSNR."""
    if "psnr" not in found[name]:
        return []
    picked = extremes(found[name]["psnr"], "higher")._asdict()
    return [(kind, index) for kind in ("best", "typical", "worst") for index in picked[kind]]
