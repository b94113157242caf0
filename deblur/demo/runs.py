"""The runs that the page offers, their networks loaded when they are first chosen."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deblur.cli import CONFIGS
from deblur.errors import ArgumentError, UsageError
from deblur.training.restorer import Restorer, load
from deblur.training.run import Run, run_of

_PRETRAINED = CONFIGS.parent / "outputs/pretrained"
_NEWEST = 10  # runs in outputs/ that are offered
_KEPT = 4  # networks in memory


@dataclass(frozen=True)
class Choice:
    """A run to choose.

    Attributes:
        path: as `load` takes it.
        channels: of the images that its network takes.
        digits: whether it was trained on digits.
    """

    path: str
    channels: int
    digits: bool

    @property
    def name(self) -> str:
        """What the page calls it: where it lies in outputs/, if it does, and what for."""
        parts = Path(self.path).parts
        after = len(parts) - parts[::-1].index("outputs") if "outputs" in parts[:-1] else 0
        return f"{Path(*parts[after:])} ({'digits' if self.digits else 'photographs'})"


class Runs:
    """Runs by their paths.

    Args:
        choices: what is offered, the first one by default.
        device: for the networks.
        allow: packages, beside deblur and torch, whose classes the runs may name.
    """

    def __init__(self, choices: Iterable[Choice], device: torch.device, allow: Sequence[str] = ()) -> None:
        self.choices = {choice.path: choice for choice in choices}
        self.device, self.allow = device, allow
        self._networks: dict[str, Restorer] = {}

    def network(self, path: str) -> Restorer:
        """The network of one of the runs.

        Raises:
            UsageError: the path is none of the offered ones, or its network cannot be had.
        """
        if path not in self.choices:
            raise UsageError(f"run={path}: is none of those on offer")
        network = self._networks.pop(path, None) or load(path, allow=self.allow).to(self.device)
        self._networks[path] = network
        while len(self._networks) > _KEPT:
            self._networks.pop(next(iter(self._networks)))  # the one that was not asked for the longest
        return network

    def fitting(self, digits: bool, chosen: str | None = None) -> str:
        """The chosen run if it was trained on such images, else the first one that was, else the chosen or first."""
        fits = [path for path, choice in self.choices.items() if choice.digits == digits]
        return chosen if chosen in fits else next(iter([*fits, *([chosen] if chosen else []), *self.choices]))


def choose_runs(typed: Any, folder: Path = Path("outputs")) -> list[Choice]:
    """The runs that were typed; if none were, the pretrained ones and the newest in the folder.

    Args:
        typed: one or several separated by commas, a list, or None.
        folder: of runs.

    Raises:
        UsageError: one of those that were typed is no run, or there are none.
    """
    if typed is None:
        found = [*_opened(sorted(_PRETRAINED.glob("*"))), *_opened(_newest(folder))]
        choices = list({choice.path: choice for choice in found}.values())
        if not choices:
            raise UsageError(f"runs=null: there is no run in {folder}; train one, or name others")
        return choices
    paths = typed
    if isinstance(typed, str):
        paths = [typed] if os.path.exists(os.path.expanduser(typed)) else [part for part in typed.split(",") if part]
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise UsageError(str(ArgumentError("runs", typed, "folders of runs, separated by commas, or null")))
    return [_choice(path, run_of(path, "runs")) for path in paths]


def _opened(paths: Iterable[Path]) -> list[Choice]:
    """Those of the folders that are runs with weights."""
    choices = []
    for path in paths:
        try:
            run = Run.open(str(path), "runs")
            if run.trained.is_file() and run.state() != "running":
                choices.append(_choice(_short(path), run))
        except UsageError:
            continue
    return choices


def _newest(folder: Path) -> list[Path]:
    """The newest runs in the folder, single ones and those of sweeps and searches."""
    files = [*folder.glob("*/*/results.json"), *folder.glob("*/*/*/results.json")]
    runs = [file.parent for file in files if folder / "pretrained" not in file.parents]
    return sorted(runs, key=lambda run: (run / "results.json").stat().st_mtime, reverse=True)[:_NEWEST]


def _choice(path: str, run: Run) -> Choice:
    data = run.config().get("data")
    target = data.get("_target_", "") if isinstance(data, dict) else ""
    return Choice(path, run.channels, str(target).startswith("deblur.data.digits."))


def _short(path: Path) -> str:
    """The path, from here if it lies below."""
    here, whole = Path.cwd(), path.resolve()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(path)
