"""The weights of a trained network, from a checkpoint or from the small file that a published run has instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from deblur.errors import UsageError
from deblur.stored import check_plain
from deblur.training.checkpoint import read_checkpoint
from deblur.training.run import PUBLISHED, Run

_PARTS = ("model", "loss", "optimizer", "scheduler")


class Weights(NamedTuple):
    """What a `DeblurModule` is made from, as plain containers, and its weights by name."""

    settings: dict[str, Any]
    state: dict[str, Tensor]


def read_weights(file: Path) -> Weights:
    """The settings and weights in a checkpoint, or in a published run's `weights.safetensors`; runs no code.

    Raises:
        UsageError: the file is not there, damaged, or not of a run.
    """
    if file.name == PUBLISHED:
        config = Run(file.parent).config()
        try:
            settings = {**{part: config[part] for part in _PARTS}, "seed": config["seed"], "task": config.get("task")}
            settings |= {key: value for key, value in config["module"].items() if key != "_target_"}
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{file.parent / 'config.yaml'}: must hold the settings of a run") from error
        if not _has_parts(settings):
            raise UsageError(f"{file.parent / 'config.yaml'}: must hold the settings of a run")
        return Weights(settings, _read_safetensors(file))
    checkpoint = read_checkpoint(file)
    settings = checkpoint.get("hyper_parameters")
    try:
        check_plain(settings)
    except ValueError as error:
        raise UsageError(f"{file}: is no checkpoint of a run: its settings {error}") from error
    if not _has_parts(settings):
        raise UsageError(f"{file}: is no checkpoint of a run")
    return Weights(settings, checkpoint["state_dict"])


def _has_parts(settings: Any) -> bool:
    return isinstance(settings, dict) and all(isinstance(settings.get(part), Mapping) for part in _PARTS)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: weight.float() for name, weight in load_file(file).items()}
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{file}: is damaged ({' '.join(str(error).split())})") from error
