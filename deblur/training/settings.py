"""The settings of a run: those that were typed, those it was saved with, and what may differ on resuming."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from deblur.build import EVERYTHING, build, find_class, trusting
from deblur.errors import (
    ArgumentError,
    UsageError,
    check_flag,
    check_integer,
    check_number,
    nearest,
    shown,
)
from deblur.training.run import Run, telling_version

# All there is at the top of a config.
TOP_LEVEL = (
    "name",
    "blur",
    "data",
    "model",
    "task",
    "module",
    "loss",
    "optimizer",
    "scheduler",
    "trainer",
    "checkpoint",
    "early_stopping",
    "ema",
    "compile",
    "seed",
    "resume",
    "init",
    "allow",
    "output_root",
    "sweep",
)
_SECTIONS = {
    "checkpoint": ("monitor", "every_minutes"),
    "early_stopping": ("patience", "min_delta"),
    "ema": ("decay",),
    "sweep": ("name", "metric", "job"),
}

MAY_DIFFER = (
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.profiler",
    "checkpoint.every_minutes",
)
_DEVICE = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")


@contextmanager
def section(path: str) -> Iterator[None]:
    """Within the block, what a constructor refuses is an error of the config's section."""
    try:
        yield
    except ArgumentError as error:
        raise UsageError(f"{path}.{error}" if path else str(error)) from error


def check_keys(settings: Mapping[str, Any], known: Sequence[str], prefix: str = "") -> None:
    """Refuses keys that a command, or one of its sections, does not have.

    Args:
        settings: by key.
        known: all keys there are.
        prefix: what stands before each key as it is typed.

    Raises:
        UsageError: a key is unknown.
    """
    for key, value in settings.items():
        if key not in known:
            raise UsageError(
                f"{prefix}{key}={shown(value)}: no such key{nearest(key, known)}; there are {', '.join(known)}"
            )


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuses what no constructor will see: unknown sections and the values outside of them.

    Raises:
        UsageError: a key is unknown or a value refused.
    """
    check_keys(settings, TOP_LEVEL)
    for name in ("blur", "data", "model", "task", "module", "loss", "optimizer", "scheduler", "trainer", *_SECTIONS):
        if name == "task" and settings.get(name) is None:
            continue  # blind
        if not isinstance(settings.get(name), Mapping):
            raise UsageError(
                f"{name}={shown(settings.get(name))}: must be a section, or one of the options in configs/{name}"
            )
    for key in TOP_LEVEL:
        if key not in settings:
            raise UsageError(f"{key}: must be given")
    for name, known in _SECTIONS.items():
        for key in known:
            if key not in settings[name]:
                raise UsageError(f"{name}.{key}: must be given")
        check_keys(settings[name], known, f"{name}.")
    with section(""):
        check_integer("seed", settings["seed"], low=0)
        if check_flag("compile", settings["compile"]):
            _check_compiler(settings["trainer"].get("accelerator"))
        for key in ("name", "output_root"):
            if not isinstance(settings[key], str) or not settings[key]:
                raise ArgumentError(key, settings[key], "a name")
        packages = settings["allow"]
        if not isinstance(packages, list) or not all(isinstance(package, str) for package in packages):
            raise ArgumentError("allow", packages, "a list of packages")
    with section("trainer"):
        check_integer("max_epochs", settings["trainer"].get("max_epochs"), low=1)
    with section("early_stopping"):
        if settings["early_stopping"]["patience"] is not None:
            patience = check_integer("patience", settings["early_stopping"]["patience"], low=1)
            if settings["trainer"].get("limit_val_batches") == 0:
                raise ArgumentError("patience", patience, "null: with trainer.limit_val_batches=0 nothing judges")
        check_number("min_delta", settings["early_stopping"]["min_delta"], low=0.0)
    with section("ema"):
        if settings["ema"]["decay"] is not None:
            decay = check_number("decay", settings["ema"]["decay"], low=0.0, high=1.0)
            if settings["trainer"].get("precision") in ("bf16-true", "16-true"):  # would swallow the small steps
                raise ArgumentError("decay", decay, "null where trainer.precision is bf16-true or 16-true")


def check_early(settings: Mapping[str, Any]) -> None:
    """Refuses what can be refused before Lightning is imported, which takes seconds.

    Args:
        settings: of a `python train.py`, resolved to plain containers.

    Raises:
        UsageError: a setting is refused.
    """
    check_settings(settings)
    if settings["resume"] is not None:
        Run.open(str(settings["resume"]), "resume")
        return
    with trusting(EVERYTHING):
        build(settings["blur"], "blur")
        find_class(settings["model"], "model")


def _check_compiler(accelerator: Any) -> None:
    """Refuses to compile where torch.compile finds no compiler: of C++ for a CPU, of C for a GPU's launchers.

    Raises:
        ArgumentError: there is none.
    """
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    language, variable, usual = ("C", "CC", ("gcc", "clang")) if on_gpu else ("C++", "CXX", ("g++", "clang++"))
    if not any(map(shutil.which, (os.environ.get(variable) or usual[0], *usual))):
        raise ArgumentError(
            "compile", True, f"false: torch.compile needs a {language} compiler, and there is no {' or '.join(usual)}"
        )


def resumed_settings(run: Run, composed: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The saved settings of a run with what may differ replaced by what was typed.

    Args:
        run: the run to continue.
        composed: the settings of this command, resolved.
        typed: this command's overrides, as Hydra keeps them.

    Raises:
        UsageError: something else was typed.
    """
    settings = run.config()
    with telling_version(run):
        check_settings(settings)
    for override in typed:
        key, _, value = override.lstrip("+").partition("=")
        if key in ("resume", "allow"):
            continue
        if key != "trainer" and key not in MAY_DIFFER:
            saved, here = _flat(settings), _flat(composed)
            name = key.replace("/", ".")
            if f"{name}._target_" in {**saved, **here}:  # of an option the class, else the value
                name = f"{name}._target_"
            if name not in {**saved, **here} or saved.get(name) != here.get(name):
                raise UsageError(
                    f"{key}={value}: a resumed run keeps its settings; may differ: trainer, {', '.join(MAY_DIFFER)}"
                )
            continue
        for name in _DEVICE if key == "trainer" else (key,):
            part, _, leaf = name.partition(".")
            if leaf in composed[part]:
                settings[part][leaf] = composed[part][leaf]
    return settings


def differences(saved: Mapping[str, Any], composed: Mapping[str, Any]) -> list[str]:
    """`key=saved` of what a run's saved settings have otherwise than these, but for what may differ on resuming."""
    mine, theirs = _flat(saved), _flat(composed)
    ignored = {
        *MAY_DIFFER,
        "resume",
        "allow",
        "output_root",
        "sweep.name",
        "sweep.metric",
        "sweep.job",
    }
    if theirs.get("data.source") == "auto":
        ignored.add("data.source")
    ignored |= {key for key in mine if key.startswith("task.estimator_network.")} | {"task.estimator_network"}
    if theirs.get("task.psf_size") is None:
        ignored.add("task.psf_size")
    keys = [key for key in {**mine, **theirs} if key not in ignored]
    return [f"{key}={shown(mine.get(key))}" for key in keys if mine.get(key) != theirs.get(key)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def summary_of(settings: Mapping[str, Any], parameters: int, swept: Mapping[str, float | str]) -> dict[str, Any]:
    """The settings that matter as plain numbers and words, the same keys for every run: a row of the HParams tab.

    A column is of numbers or of words in all runs, else the tab can neither sort nor filter it.

    Args:
        settings: of the run.
        parameters: of its network.
        swept: settings that differ between the runs of its sweep, as typed.
    """
    names = {
        "model": settings["name"],
        "parameters": parameters,
        "blur": settings["blur"]["_target_"].rpartition(".")[2],
        "blur.length": _ends(settings["blur"].get("length"))[1],
        "blur.length_min": _ends(settings["blur"].get("length"))[0],
        "blur.noise": _ends(settings["blur"].get("noise"))[1],
        "blur.camera": "off" if settings["blur"].get("camera") is None else "on",
        "blur.registration": settings["blur"].get("registration"),
        "data": settings["data"]["_target_"].rpartition(".")[2],
        "data.source": settings["data"].get("source", ""),
        "data.batch_size": settings["data"].get("batch_size"),
        "task": (settings.get("task") or {"_target_": "Blind"})["_target_"].rpartition(".")[2],
        "loss": settings["loss"]["_target_"].rpartition(".")[2],
        "optimizer": settings["optimizer"]["_target_"].rpartition(".")[2],
        "optimizer.lr": settings["optimizer"].get("lr"),
        "scheduler": settings["scheduler"]["_target_"].rpartition(".")[2],
        "ema.decay": settings["ema"]["decay"] or 0.0,
        "trainer.max_epochs": settings["trainer"].get("max_epochs"),
        "trainer.precision": settings["trainer"].get("precision"),
        "seed": settings["seed"],
    }
    row = {
        name: value if isinstance(value, int | float) and not isinstance(value, bool) else shown(value)
        for name, value in names.items()
    }
    return row | {key: value for key, value in swept.items() if key not in row}


def _ends(value: Any) -> tuple[float, float]:
    """Smallest and largest of a setting that is a number, [min, max] or not there (0)."""
    low, high = value if isinstance(value, list) else (value, value)
    return float(low or 0.0), float(high or 0.0)
