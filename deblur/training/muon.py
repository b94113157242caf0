"""Muon for the matrices of a network, Adam for the rest, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from deblur.errors import ArgumentError, check_integer, check_number

# Quintic iteration of K. Jordan et al.: drives all singular values to about 1.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_LONG = 3  # sides of this ratio make a matrix long


class Muon(Optimizer):
    """Muon: the momentum of each weight matrix is made orthogonal before the step; Adam for all other parameters.

    The weight of a convolution, (out, in, h, w), counts as the matrix (out, in * h * w). The step is scaled by
    0.2 sqrt(max(rows, columns)), so that its root mean square, 0.2 lr, does not depend on the shape. Unlike
    `torch.optim.Muon` it takes convolutions, and the parameters that are no matrices as well. Matrices whose shorter
    side is under `smallest`, such as a layer that makes a grey image, or over `largest`, such as a layer that mixes all
    pixels, are left to Adam: to make one orthogonal takes time with the cube of that side. After K. Jordan et al.,
    "Muon: an optimizer for hidden layers in neural networks", 2024, and J. Liu et al., "Muon is scalable for LLM
    training", 2025 (the scale).

    Args:
        params: parameters.
        lr: learning rate of Muon; a schedule changes it.
        momentum: of Muon, Nesterov's.
        adam_ratio: learning rate of Adam as a share of `lr`.
        betas, eps: of Adam.
        weight_decay: how much of each parameter a step of rate 1 takes away (I. Loshchilov and F. Hutter, "Decoupled
            Weight Decay Regularization", ICLR 2019).
        smallest, largest: shorter side of a matrix that is orthogonalised.

    Raises:
        ArgumentError: an argument is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.006,
        momentum: float = 0.95,
        adam_ratio: float = 0.3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        smallest: int = 8,
        largest: int = 512,
    ) -> None:
        check_number("lr", lr, low=0.0)
        if not _is_share(momentum):
            raise ArgumentError("momentum", momentum, "a number in [0, 1)")
        check_number("adam_ratio", adam_ratio, low=0.0)
        if not isinstance(betas, list | tuple) or len(betas) != 2 or not all(map(_is_share, betas)):
            raise ArgumentError("betas", betas, "two numbers in [0, 1)")
        check_number("eps", eps, above=0.0)
        check_number("weight_decay", weight_decay, low=0.0)
        check_integer("smallest", smallest, low=1)
        check_integer("largest", largest, low=smallest)
        defaults = {"lr": lr, "momentum": momentum, "adam_ratio": adam_ratio, "betas": tuple(betas), "eps": eps}
        defaults |= {"weight_decay": weight_decay, "smallest": smallest, "largest": largest}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_gradient = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in with_gradient:
                if _is_matrix(parameter, group):
                    self._muon(parameter, group)
            self._adamw([parameter for parameter in with_gradient if not _is_matrix(parameter, group)], group)
        return loss

    def _muon(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum, beta = state["momentum"], group["momentum"]
        momentum.lerp_(parameter.grad, 1 - beta)
        update = orthogonalise(parameter.grad.lerp(momentum, beta).flatten(1))
        scale = 0.2 * max(update.shape) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * scale)

    def _adamw(self, parameters: list[Tensor], group: dict) -> None:
        states = [self.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] = state["step"].to(parameter.device)  # Lightning leaves it on the CPU when it resumes
        if parameters:
            first, second = group["betas"]
            adamw(
                parameters,
                [parameter.grad for parameter in parameters],
                *([state[name] for state in states] for name in ("mean", "square")),
                max_exp_avg_sqs=[],
                state_steps=[state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=first,
                beta2=second,
                lr=group["lr"] * group["adam_ratio"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )


def _is_matrix(parameter: Tensor, group: dict) -> bool:
    """Whether Muon moves it."""
    return parameter.ndim >= 2 and group["smallest"] <= min(parameter.flatten(1).shape) <= group["largest"]


def _is_share(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < 1


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The matrix with all its singular values brought to about 1 (0.7 to 1.2), by Newton-Schulz iterations.

    What the iterations multiply a long matrix X by is a polynomial in its Gram matrix X X^T. On the CPU it is worked
    out from that alone: half the time, and equal to about 0.0002 of the norm. (Not on a GPU, whose float32 products may
    be of less precision than that needs.)
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or x.shape[1] < _LONG * x.shape[0]:
        for _ in range(steps):
            gram = x @ x.mT
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x.mT if tall else x
    gram, product = x @ x.mT, None
    for step in range(steps):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ (gram @ factor)
    x = product @ x
    return x.mT if tall else x
