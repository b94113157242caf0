"""The runs that are evaluated, and the pairs that all of them are evaluated on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deblur.data.module import DeblurDataModule
from deblur.errors import UsageError, check_path, shown
from deblur.evaluation.baselines import BASELINES
from deblur.evaluation.measure import BLURRED, SHARP
from deblur.evaluation.protocols import Protocol
from deblur.models.estimates import takes_psf
from deblur.tasks.kernel import KernelNetwork
from deblur.tasks.nonblind import EstimatingNetwork
from deblur.training.restorer import Restorer, load
from deblur.training.run import Run, run_of
from deblur.training.settings import section
from deblur.training.task import open_estimator


@dataclass
class Contender:
    """A trained network that is evaluated.

    Attributes:
        name: for tables.
        run: its folder.
        network: from blurred (and the true PSFs, if it takes such) to restored, on the device.
        parameters: how many.
    """

    name: str
    run: Run
    network: Restorer
    parameters: int


def open_contenders(typed: str, allow: Sequence[str], device: torch.device) -> list[Contender]:
    """The runs of a path, or of several separated by commas, with their networks on the device.

    Where not all of them are blind, their names say what each is given and finds.

    Raises:
        UsageError: there is no run, or its network cannot be had.
    """
    paths = [typed] if os.path.exists(os.path.expanduser(typed)) else [part for part in typed.split(",") if part]
    if not paths:
        raise UsageError(f"run={typed}: must be a run's folder, or several separated by commas")
    runs = [_run(path) for path in paths]
    short = [run.path.resolve().name for run in runs]
    names = [_long_name(run) for run in runs]
    others = {BLURRED, SHARP, *(kind.name for kind in BASELINES)}  # that stand in the same tables
    if len(set(short)) == len(short) and all(not name[:1].isdigit() and name not in others for name in short):
        names = short
    found = []
    for number, (path, run) in enumerate(zip(paths, runs, strict=True)):
        network = load(path, allow=allow).to(device)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        name = names[number] if names.count(names[number]) == 1 else f"{names[number]} ({number + 1})"
        found.append(Contender(name, run, network, parameters))
    tasks = [_task(contender.network.network) for contender in found]
    if set(tasks) != {"blind"}:
        for contender, task in zip(found, tasks, strict=True):
            contender.name += f" ({task})"
    return found


def _long_name(run: Run) -> str:
    path = run.path.resolve()
    return f"{path.parent.name}/{path.name}"


def _task(network: nn.Module) -> str:
    """What a network is given and finds, in words."""
    if isinstance(network, EstimatingNetwork):
        return "nonblind, estimated PSF"
    if takes_psf(network):
        return "nonblind, true PSF"
    return "kernel" if isinstance(network, KernelNetwork) else "blind"


def with_estimator(
    contenders: Sequence[Contender],
    path: str,
    image_shape: tuple[int, int, int],
    allow: Sequence[str],
    device: torch.device,
) -> list[Contender]:
    """The contenders, and after each that takes PSFs the same network with those that another run's estimates.

    Args:
        contenders: the runs.
        path: of the run that estimates.
        image_shape: (C, H, W) of the images.
        allow: packages, beside deblur and torch, whose classes that run may name.
        device: where the networks are.

    Raises:
        UsageError: none of them takes PSFs, or the run estimates none of such images.
    """
    if not any(contender.network.takes_psf for contender in contenders):
        raise UsageError(f"estimator={path}: none of the runs is given PSFs; those of task=nonblind are")
    estimator = open_estimator("estimator", path, image_shape, allow).network.to(device)
    word = _long_name(run_of(path, "estimator"))
    found = []
    for one in contenders:
        found.append(one)
        if one.network.takes_psf:
            network = Restorer(EstimatingNetwork(estimator, one.network.network))
            parameters = sum(parameter.numel() for parameter in network.parameters())
            name = f"{one.name.removesuffix(', true PSF)')}, PSF of {word})"
            found.append(Contender(name, one.run, network, parameters))
    return found


def _run(path: str) -> Run:
    with section(""):
        check_path("run", path, "a run")
    return run_of(path, "run")


def typed_root(settings: Mapping[str, Any]) -> Any:
    """The root of the data that the command names: by itself, by DEBLUR_DATA, or the usual one."""
    return (settings.get("data") or {}).get("root", os.environ.get("DEBLUR_DATA", "data"))


def common_settings(
    contenders: Sequence[Contender], settings: Mapping[str, Any], protocol: Protocol
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configs of blur and data that all runs are evaluated on.

    Args:
        contenders: the runs.
        settings: `blur` and `data` change those of the runs, or replace them if they name a class.
        protocol: says which keys of the blur count.

    Raises:
        UsageError: a run has none, or they differ between runs.
    """
    names = [contender.name for contender in contenders]
    found = []
    for contender in contenders:
        config, parts = contender.run.config(), []
        for key in ("blur", "data"):
            if not isinstance(config.get(key), Mapping) or "_target_" not in config[key]:
                raise UsageError(f"run: its config.yaml has no {key}")
            changes = settings.get(key) or {}
            parts.append({**changes} if "_target_" in changes else _changed(config[key], changes))
        data = parts[1]
        typed = settings.get("data") or {}
        if "source" in data and "root" not in typed and "DEBLUR_DATA" in os.environ:  # only digits have a source
            data["root"] = os.environ["DEBLUR_DATA"]
        if data.get("source") == "files" and "source" not in typed:
            data["source"] = "auto"  # where the run was made there were files; here there may be none
        data.pop("batch_size", None)  # of training: no pair depends on it
        found.append(tuple(parts))
    for name, other in zip(names[1:], found[1:], strict=True):
        for key, mine, theirs in zip(("blur", "data"), found[0], other, strict=True):
            for leaf in {**mine, **theirs}:
                counts = leaf != "root" if key == "data" else protocol.takes(leaf)
                if counts and mine.get(leaf) != theirs.get(leaf):
                    raise UsageError(
                        f"run: {names[0]} has {key}.{leaf}={shown(mine.get(leaf))}, {name} {shown(theirs.get(leaf))}; "
                        f"give {key}.{leaf} (or {key}) to evaluate them on the same pairs"
                    )
    return found[0]


def try_network(contender: Contender, data: DeblurDataModule, device: torch.device) -> None:
    """Refuses a network that cannot take the data's images.

    Raises:
        UsageError: it cannot.
    """
    shape = data.image_shape
    if contender.network.takes_psf and not data.knows_psf:
        raise UsageError(f"run={contender.run.path}: it is given the true PSFs, and nobody knows those of real pairs")
    if contender.network.takes_psf and not data.blur.one_psf:
        raise UsageError(
            f"run={contender.run.path}: it is given one PSF for an image, and {type(data.blur).__name__} blurs each "
            "place of an image differently"
        )
    psf = torch.ones(1, 1, 1, 1, device=device) if contender.network.takes_psf else None
    try:
        with torch.inference_mode():
            made = contender.network(torch.zeros(1, *shape, device=device), psf)
    except (RuntimeError, ValueError) as error:
        size = "x".join(map(str, shape))
        raise UsageError(
            f"run={contender.run.path}: its network cannot take images of {size}: {shown(error)}"
        ) from error
    if made.shape != (1, *shape):
        raise UsageError(f"run={contender.run.path}: its network makes {tuple(made.shape[1:])} from {shape}")


def _changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with other values; a section without a `_target_` changes the one of its name, others replace it."""
    made = dict(config)
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and "_target_" not in value and isinstance(made.get(key), Mapping)
        made[key] = _changed(made[key], value) if inner else value
    return made
