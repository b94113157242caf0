"""`python restore.py run=<run> input=<file or folder> output=<folder>`: pictures restored by a trained network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from deblur.cli import make_console
from deblur.data.photographs import SUFFIXES
from deblur.errors import ArgumentError, UsageError, check_flag, check_integer, check_path, nearest, shown
from deblur.restoration.picture import Picture
from deblur.restoration.tiles import restore_in_tiles
from deblur.training.restorer import choose_device, load
from deblur.training.settings import section

log = logging.getLogger(__name__)

_KEYS = ("run", "input", "output", "tile", "overlap", "batch_size", "compare", "accelerator", "allow")


def restore(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Restore a picture, or all in a folder; returns 0, or 1 if some could not be restored.

    Raises:
        UsageError: a setting is refused; nothing was written.
    """
    for key, value in settings.items():
        if key not in _KEYS:
            raise UsageError(f"{key}={shown(value)}: no such key{nearest(key, _KEYS)}; there are {', '.join(_KEYS)}")
    with section(""):
        source = check_path("input", settings["input"], "a picture, or a folder with pictures")
        target = check_path("output", settings["output"], "a folder")
        tile = check_integer("tile", settings["tile"], low=16)
        overlap = check_integer("overlap", settings["overlap"], low=0, high=tile // 2 - 1)
        batch_size = check_integer("batch_size", settings["batch_size"], low=1)
        compare = check_flag("compare", settings["compare"])
        if target.exists() and not target.is_dir():
            raise ArgumentError("output", settings["output"], "a folder")
    files = _files(source)
    goals = {file: target / file.relative_to(source if source.is_dir() else source.parent) for file in files}
    inputs = {file.resolve() for file in files}
    for goal in goals.values():
        if goal.resolve() in inputs:
            raise UsageError(f"output={settings['output']}: {goal} is an input, and would be overwritten")
    device = choose_device(settings["accelerator"])
    with section(""):
        check_path("run", settings["run"], "a run")
    network = load(settings["run"], allow=settings["allow"]).to(device)

    def through(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return restore_in_tiles(network, image.to(device), tile=tile, overlap=overlap, batch_size=batch_size)

    failed = []
    with Progress(console=make_console(), transient=True) as progress:
        for file in progress.track(files, description="restoring"):
            try:
                picture = Picture.read(file)
                made = picture.through(through, network.channels)
                picture.write(made, goals[file])
                if compare:
                    beside = goals[file].with_name(f"{goals[file].stem}_compare{goals[file].suffix}")
                    _compared(picture, made).write(torch.cat([picture.pixels, made], dim=2), beside)
            except (UsageError, RuntimeError) as error:
                failed.append(shown(error))
    print(f"restored: {len(files) - len(failed)} of {len(files)}, in {target}")
    for line in failed:
        log.error("%s", line)
    return int(bool(failed))


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UsageError(f"input={source}: there is no such file or folder")
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise UsageError(f"input={source}: has no pictures ({', '.join(SUFFIXES)})")
    return files


def _compared(picture: Picture, made: Tensor) -> Picture:
    return Picture(made, None, picture.deep, {key: value for key, value in picture.about.items() if key != "exif"})
