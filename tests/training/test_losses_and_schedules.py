"""Losses and learning rate schedules against their closed forms and torch's own schedulers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deblur.errors import ArgumentError
from deblur.training.losses import Charbonnier
from deblur.training.schedules import Constant, Cosine, OneCycle

SCHEDULES = [Constant, Cosine, OneCycle]
shares = st.floats(0, 1)


def torchs_rates(scheduler: type, steps: int, **settings: float) -> list[float]:
    """The rates that one of torch's schedulers gives to `steps` steps, in units of the highest."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduler(optimizer, **settings)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("epsilon", [1e-3, 0.1])
def test_charbonnier_is_its_closed_form(epsilon):
    restored, sharp = torch.rand(2, 3, 1, 5, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    difference = (restored - sharp).double().numpy()
    loss = Charbonnier(epsilon)(restored, sharp)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(np.mean(np.sqrt(difference**2 + epsilon**2)), rel=1e-6)


def test_charbonnier_of_the_truth_is_epsilon_with_gradient_zero():
    restored = torch.rand(2, 1, 4, 4, requires_grad=True)
    loss = Charbonnier(0.01)(restored, restored.detach())
    loss.backward()
    assert loss.item() == pytest.approx(0.01)
    assert (restored.grad == 0).all()


def test_charbonnier_is_l1_far_from_its_tip():
    restored, sharp = torch.full((2, 1, 4, 4), 0.9), torch.full((2, 1, 4, 4), 0.2)
    assert Charbonnier(1e-4)(restored, sharp).item() == pytest.approx(nn.L1Loss()(restored, sharp).item(), abs=1e-6)


@pytest.mark.parametrize("epsilon", [0, -1e-3, "small", float("nan"), None])
def test_charbonnier_refuses_an_epsilon_without_a_tip(epsilon):
    with pytest.raises(ArgumentError) as refused:
        Charbonnier(epsilon)
    assert refused.value.name == "epsilon"


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [
        (Constant(warmup=0.2), 0, 1, 1),
        (Cosine(warmup=0.2, final=0.1), 0, 0.55, 0.1),
        (OneCycle(warmup=0.2, initial=0.04, final=0.1), 0.04, 0.55, 0.1),
        (OneCycle(warmup=0.2), 0.04, 0.5, 4e-6),
    ],
)
def test_rate_at_the_start_after_the_warmup_halfway_down_and_at_the_end(schedule, start, middle, end):
    assert schedule(0.0) == pytest.approx(start)
    assert schedule(0.2) == pytest.approx(1)
    assert schedule(0.6) == pytest.approx(middle, abs=1e-5)
    assert schedule(1.0) == pytest.approx(end)


def test_warmup_is_a_line_for_constant_and_cosine_and_a_cosine_for_one_cycle():
    for schedule in (Constant(0.4), Cosine(0.4)):
        assert [schedule(share) for share in (0.1, 0.2, 0.3)] == pytest.approx([0.25, 0.5, 0.75])
    cycle = OneCycle(0.4, initial=0.0)
    expected = [(1 - math.cos(math.pi * share)) / 2 for share in (0.25, 0.5, 0.75)]
    assert [cycle(share) for share in (0.1, 0.2, 0.3)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warmup_the_first_rate_is_the_whole_one(schedule):
    assert schedule(warmup=0.0)(0.0) == pytest.approx(1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_warmup_ends_at_the_whole_rate(schedule):
    assert schedule(warmup=1.0)(1.0) == pytest.approx(1)


@given(st.sampled_from(SCHEDULES), shares, shares, shares)
@settings(deadline=None)
def test_rate_rises_until_the_end_of_the_warmup_and_never_again(schedule, warmup, one, two):
    rate, (early, late) = schedule(warmup=warmup), sorted((one, two))
    assert 0 <= rate(early) <= 1
    assert 0 <= rate(late) <= 1
    if late <= warmup:
        assert rate(early) <= rate(late) + 1e-9
    elif early >= warmup:
        assert rate(early) >= rate(late) - 1e-9


def test_cosine_is_torchs():
    expected = torchs_rates(torch.optim.lr_scheduler.CosineAnnealingLR, 50, T_max=50, eta_min=0.1)
    assert [Cosine(warmup=0, final=0.1)(step / 50) for step in range(50)] == pytest.approx(expected, abs=1e-6)


def test_one_cycle_is_torchs():
    steps = 101
    expected = torchs_rates(torch.optim.lr_scheduler.OneCycleLR, steps, max_lr=1.0, total_steps=steps, pct_start=0.3)
    ours = OneCycle(warmup=(0.3 * steps - 1) / (steps - 1))  # torch ends its warm-up one step early
    assert [ours(step / (steps - 1)) for step in range(steps)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "name", "value"),
    [
        (Constant, "warmup", -0.1),
        (Constant, "warmup", 1.1),
        (Cosine, "warmup", "short"),
        (Cosine, "final", 2),
        (OneCycle, "initial", -1),
        (OneCycle, "final", None),
        (OneCycle, "warmup", True),
    ],
)
def test_refused_argument_is_named(schedule, name, value):
    with pytest.raises(ArgumentError) as refused:
        schedule(**{name: value})
    assert refused.value.name == name
