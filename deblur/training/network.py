"""The network of a training: a model, and around it what its task needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from deblur.build import build, constructor_parameters, find_class
from deblur.errors import UsageError
from deblur.tasks import Blind, Task


def build_network(model: Mapping[str, Any], task: Mapping[str, Any] | None) -> tuple[nn.Module, nn.Module]:
    """The network for the task, and the model in it; for a blind task they are the same.

    Args:
        model: its config.
        task: its config; None: blind.

    Raises:
        UsageError: a config is refused, or the model cannot serve the task.
    """
    wanted = Blind() if task is None else build(task, "task")
    if not isinstance(wanted, Task):
        raise UsageError(f"task._target_={task['_target_']}: must be a deblur.tasks.Task")
    if wanted.channels is not None:
        cls = find_class(model, "model")
        if "channels" not in constructor_parameters(cls):
            raise UsageError(
                f"task: {type(wanted).__name__} gives the model {wanted.channels} channels, but model ({cls.__name__}) "
                "has no such key; take one of the options in configs/model"
            )
        model = {**model, "channels": wanted.channels}
    inner = build(model, "model")
    if not isinstance(inner, nn.Module):
        raise UsageError(f"model._target_={model['_target_']}: must be an nn.Module")
    return wanted.around(inner), inner
