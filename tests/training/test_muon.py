"""Muon: orthogonal steps for the matrices of a network, AdamW's for the rest, and a state that goes on exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deblur.errors import ArgumentError
from deblur.training.muon import Muon, orthogonalise


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(randn(*shape, seed=seed))


def take_steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seeds: range) -> None:
    """A step for each seed, with gradients drawn from it."""
    for seed in seeds:
        for number, one in enumerate(parameters):
            one.grad = randn(*one.shape, seed=100 * seed + number)
        optimizer.step()


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (200, 40), (32, 8 * 3 * 3), (16, 24 * 5 * 5)], ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_orthogonalised_matrix_keeps_its_singular_vectors_and_has_singular_values_near_one(shape, scale):
    matrix = scale * randn(*shape)
    made = orthogonalise(matrix)
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.6
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    turned = left.mT @ made.double() @ right.mT
    torch.testing.assert_close(turned, turned.diagonal().diag(), atol=1e-4, rtol=0)
    assert (turned.diagonal() > 0.6).all()


@pytest.mark.parametrize("shape", [(16, 144), (128, 1152), (432, 128), (24, 72)], ids=str)
def test_long_matrices_are_orthogonalised_as_by_the_plain_iterations(shape):
    tall = shape[0] > shape[1]
    left, _, right = torch.linalg.svd(randn(*shape), full_matrices=False)
    matrix = left @ torch.logspace(0, -5, min(shape)).diag() @ right  # of a condition that float32 feels
    x = (matrix.mT if tall else matrix).double()
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    plain = x.mT if tall else x
    assert (orthogonalise(matrix) - plain).norm() < 1e-3 * plain.norm()
    no_rank = torch.zeros(shape)
    no_rank[0] = 1.0
    assert orthogonalise(no_rank).isfinite().all()


def test_a_gradient_of_zeros_moves_nothing_and_breaks_nothing():
    weight, bias = parameter(16, 8, 3, 3), parameter(16)
    before = [weight.detach().clone(), bias.detach().clone()]
    optimizer = Muon([weight, bias])
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    optimizer.step()
    assert torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (8, 8, 3, 3), (32, 64, 3, 3), (48, 16, 2, 2)], ids=str)
def test_the_size_of_a_step_does_not_depend_on_the_matrix(shape):
    weight = parameter(*shape)
    before = weight.detach().clone()
    take_steps(Muon([weight], lr=0.05), [weight], range(1))
    root_mean_square = (weight - before).square().mean().sqrt() / 0.05
    assert 0.6 * 0.2 < root_mean_square < 1.3 * 0.2


def test_the_momentum_is_nesterovs_and_the_decay_apart_from_it():
    weight, lr, beta = parameter(24, 8, 3, 3), 0.03, 0.9
    expected, momentum = weight.detach().clone().flatten(1), torch.zeros(24, 72)
    optimizer = Muon([weight], lr=lr, momentum=beta, weight_decay=2.0)
    for seed in range(4):
        take_steps(optimizer, [weight], range(seed, seed + 1))
        gradient = weight.grad.flatten(1)
        momentum = beta * momentum + (1 - beta) * gradient
        ahead = beta * momentum + (1 - beta) * gradient
        expected = (1 - lr * 2.0) * expected - lr * 0.2 * 72**0.5 * orthogonalise(ahead)
        torch.testing.assert_close(weight.detach().flatten(1), expected, atol=1e-5, rtol=1e-5)


def test_the_layout_in_memory_does_not_matter():
    plain = parameter(16, 8, 3, 3)
    other = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    for one in (plain, other):
        take_steps(Muon([one]), [one], range(3))
    torch.testing.assert_close(plain, other, atol=1e-6, rtol=1e-5)


def test_vectors_thin_and_very_large_layers_follow_adamw():
    shapes = [(16,), (), (7, 64), (64, 7), (4, 16, 3, 3), (64, 1, 2, 2), (513, 600)]
    ours, theirs = ([parameter(*shape, seed=n) for n, shape in enumerate(shapes)] for _ in range(2))
    muon = Muon(ours, lr=0.02, adam_ratio=0.25, betas=(0.8, 0.95), eps=1e-6, weight_decay=3.0)
    adamw = torch.optim.AdamW(theirs, lr=0.005, betas=(0.8, 0.95), eps=1e-6, weight_decay=3.0)
    for steps, factor in ((range(5), 1.0), (range(5, 8), 0.1)):  # a schedule changes both
        muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"] = 0.02 * factor, 0.005 * factor
        take_steps(muon, ours, steps)
        take_steps(adamw, theirs, steps)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bounds", [{"smallest": 17}, {"largest": 15}], ids=str)
def test_what_counts_as_thin_and_as_too_large_can_be_set(bounds):
    ours, theirs = parameter(16, 16), parameter(16, 16)
    take_steps(Muon([ours], lr=0.01, adam_ratio=1.0, betas=(0.9, 0.999), **bounds), [ours], range(3))
    take_steps(torch.optim.AdamW([theirs], lr=0.01, weight_decay=0), [theirs], range(3))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_a_parameter_without_gradient_stays():
    used, unused = parameter(16, 16), parameter(16, 16, seed=1)
    before = unused.detach().clone()
    optimizer = Muon([used, unused])
    used.grad = randn(16, 16, seed=2)
    optimizer.step()
    assert torch.equal(unused, before)
    assert unused not in optimizer.state


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))


def fit(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    x = randn(128, 12)
    y = torch.stack([x[:, 0] * x[:, 1], x.sum(dim=1).sin()], dim=1)
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        losses.append(optimizer.step(closure).item())
    return losses


def test_a_small_regression_converges():
    model = network()
    losses = fit(model, Muon(model.parameters(), lr=0.02), 200)
    assert losses[-1] < 0.02 * losses[0]


def test_training_goes_on_from_a_saved_state_bit_for_bit(tmp_path: Path):
    whole, cut, resumed = network(), network(), network()
    expected = fit(whole, Muon(whole.parameters()), 10)
    optimizer = Muon(cut.parameters())
    fit(cut, optimizer, 6)
    torch.save({"network": cut.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(saved["network"])
    optimizer = Muon(resumed.parameters(), lr=0.5, momentum=0.1)  # the saved settings count
    optimizer.load_state_dict(saved["optimizer"])
    assert fit(resumed, optimizer, 4) == expected[6:]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -0.1),
        ("lr", "fast"),
        ("lr", None),
        ("lr", float("nan")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("momentum", "high"),
        ("adam_ratio", -1),
        ("betas", 0.9),
        ("betas", [0.9]),
        ("betas", [0.9, 1.0]),
        ("betas", [0.9, "x"]),
        ("betas", None),
        ("eps", 0.0),
        ("eps", "small"),
        ("weight_decay", -0.1),
        ("weight_decay", "some"),
        ("smallest", 0),
        ("smallest", 1.5),
        ("largest", 7),
        ("largest", "wide"),
    ],
    ids=str,
)
def test_refused_argument_is_named(name, value):
    with pytest.raises(ArgumentError, match=rf"^{name}=") as refused:
        Muon([parameter(8, 8)], **{name: value})
    assert refused.value.name == name
