"""A run as a small folder for others: settings, results, history, figures, and its weights as plain tensors."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deblur.errors import ArgumentError, UsageError, check_flag, check_path
from deblur.training.logger import HISTORY, read_history
from deblur.training.run import PUBLISHED, Run
from deblur.training.settings import check_keys, section
from deblur.training.weights import read_weights

_KEYS = ("run", "output", "half")
_LARGE = 250_000  # bytes of a picture, from which on it is kept in 256 colours


def publish(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Write the folder, whole or not at all; returns 0.

    Raises:
        UsageError: a setting is refused, the run is not finished, or there is something in the folder already.
    """
    check_keys(settings, _KEYS)
    run = Run.open(str(settings["run"]), "run")
    with section(""):
        folder = check_path("output", settings["output"], "a folder that is not there yet")
        half = check_flag("half", settings["half"])
        if folder.exists():
            raise ArgumentError("output", settings["output"], "a folder that is not there yet")
    if run.state() != "finished":
        raise UsageError(f"run={settings['run']}: is {run.state()}; only a finished run can be published")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            whole = Path(temporary) / folder.name
            _write(run, whole, half)
            os.replace(whole, folder)
    except OSError as error:
        raise UsageError(f"output={settings['output']}: cannot be written ({error.strerror or error})") from error
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"published: {folder} ({size / 1024:,.0f} KiB); use it as run={folder}")
    return 0


def _write(run: Run, folder: Path, half: bool) -> None:
    from safetensors.torch import save

    folder.mkdir()
    made = Run(folder)
    state = read_weights(run.trained).state
    kept = {name: weight.half() if half and weight.is_floating_point() else weight for name, weight in state.items()}
    (folder / PUBLISHED).write_bytes(save({name: weight.contiguous() for name, weight in kept.items()}))
    made.write_config(_portable(run.config()))
    results = run.results()
    made.write_results(**results | {"data_source": _portable_source(run.config(), results.get("data_source"))})
    history = {name: [[step, _short(value)] for step, value in line] for name, line in read_history(run.path).items()}
    (folder / HISTORY).write_text(json.dumps(history) + "\n")
    if run.figures.is_dir():
        shutil.copytree(run.figures, made.figures)
        for picture in made.figures.glob("*.png"):
            if picture.stat().st_size > _LARGE:
                with Image.open(picture) as image:
                    small = image.convert("RGB").quantize(256)
                small.save(picture, optimize=True)


def _portable_source(config: Mapping[str, Any], source: Any) -> Any:
    """Where the images came from, without a place of this machine."""
    return "<folder>" if source == config["data"].get("root") else source


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the places of the machine that the run was made on."""
    portable = {**config, "output_root": "outputs", "resume": None, "init": None if config["init"] is None else "<run>"}
    if (config.get("task") or {}).get("estimator") is not None:
        portable["task"] = {**config["task"], "estimator": "<run>"}
    if config["data"].get("root") is not None:
        portable["data"] = {**config["data"], "root": "data" if "source" in config["data"] else "<folder>"}
    if (config.get("blur") or {}).get("path") is not None:
        portable["blur"] = {**config["blur"], "path": "<psfs>"}
    return portable


def _short(value: float) -> float:
    return float(f"{value:.6g}")
