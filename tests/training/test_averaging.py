"""The moving average of the weights: exponential in the end, and soon free of the first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from deblur.training.averaging import MovingAverage


def averaged(module: nn.Module, decay: float, **changes: bool) -> AveragedModel:
    """The module's average as the callback keeps it."""
    callback = MovingAverage(decay)
    callback._average_model = AveragedModel(module, multi_avg_fn=callback._update, **changes)
    return callback._average_model


def averages(decay: float, values: list[float]) -> list[float]:
    """The average after each of the values that a weight has had."""
    weight = nn.Linear(1, 1, bias=False)
    average = averaged(weight, decay)
    found = []
    for value in values:
        nn.init.constant_(weight.weight, value)
        average.update_parameters(weight)
        found.append(average.module.weight.item())
    return found


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.998])
def test_it_follows_the_rule_at_every_step(decay):
    values = torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()
    expected = values[0]
    for step, (value, found) in enumerate(zip(values, averages(decay, values), strict=True)):
        share = min(decay, (1 + step) / (10 + step))
        expected = value if step == 0 else share * expected + (1 - share) * value
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_first_weights_are_soon_forgotten():
    assert averages(0.998, [1.0] + [0.0] * 200)[-1] < 1e-8  # a constant decay would leave 0.67


def test_counters_are_copied():
    norm = nn.BatchNorm1d(1)
    average = averaged(norm, 0.9, use_buffers=True)
    for count in (3, 7):
        norm.num_batches_tracked.fill_(count)
        average.update_parameters(norm)
    assert int(average.module.num_batches_tracked) == 7
