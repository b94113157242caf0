"""A step whose gradients are not finite changes neither weights nor the optimiser's state."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from deblur.training.guard import FiniteGuard, Place
from deblur.training.muon import Muon

_OPTIMISERS = {
    "AdamW, fused": lambda params: torch.optim.AdamW(params, lr=0.1, fused=True),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.1),
    "SGD, fused": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, fused=True),
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "Muon": Muon,
}


def _step(layer, optimizer, guard, number, spoilt=False):
    loss = layer(torch.ones(2, 9)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    if spoilt:
        layer.weight.grad[0, 0] = math.nan
    guard.see_loss(loss)
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in layer.parameters()])
    guard.before_step(optimizer, norm, Place(number, number))
    optimizer.step()


@pytest.mark.parametrize("make", _OPTIMISERS.values(), ids=list(_OPTIMISERS))
def test_a_skipped_step_changes_nothing(make):
    torch.manual_seed(0)
    layer, guard = torch.nn.Linear(9, 9), FiniteGuard()
    optimizer = make(list(layer.parameters()))
    _step(layer, optimizer, guard, 0)
    weights, state = copy.deepcopy(layer.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    _step(layer, optimizer, guard, 1, spoilt=True)
    for name, weight in layer.state_dict().items():
        assert torch.equal(weight, weights[name])
    for number, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(state[number][name])), name
    _step(layer, optimizer, guard, 2)
    assert not torch.equal(layer.weight, weights["weight"])
    assert guard.look() == (1, Place(1, 1))
    assert guard.look()[0] == 0


@pytest.mark.parametrize("make", _OPTIMISERS.values(), ids=list(_OPTIMISERS))
def test_a_skipped_first_step_leaves_no_trace(make):
    torch.manual_seed(0)
    layer = torch.nn.Linear(9, 9)
    other = copy.deepcopy(layer)
    for one, first in ((layer, 0), (other, 1)):
        guard, optimizer = FiniteGuard(), make(list(one.parameters()))
        torch.full((4096,), 1e30)  # what a state that is made but not filled may find in memory
        for number in range(first, 4):
            _step(one, optimizer, guard, number, spoilt=number == 0)
    torch.testing.assert_close(layer.weight, other.weight, rtol=0, atol=1e-6)


def test_steps_in_a_row_are_counted_from_where_they_began():
    layer, guard = torch.nn.Linear(9, 9), FiniteGuard()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for number, spoilt in enumerate([True, False, True, True, True, False]):
        _step(layer, optimizer, guard, number, spoilt)
    assert guard.look() == (3, Place(2, 2))
    _step(layer, optimizer, guard, 6, spoilt=True)
    again = FiniteGuard()
    again.load_state_dict(guard.state_dict())
    _step(layer, optimizer, again, 7, spoilt=True)
    assert again.look() == (2, Place(6, 6))


def test_a_loss_that_is_not_finite_skips_the_step_too():
    layer, guard = torch.nn.Linear(9, 9), FiniteGuard()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.clone()
    guard.see_loss(torch.tensor(math.inf))
    _step(layer, optimizer, guard, 0)
    assert torch.equal(layer.weight, before)
