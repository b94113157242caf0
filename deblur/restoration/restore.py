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
from deblur.data.kernel_file import KernelFile
from deblur.data.picture_files import SUFFIXES
from deblur.errors import ArgumentError, UsageError, check_flag, check_integer, check_path, shown
from deblur.folders import files_in, try_folder
from deblur.restoration.picture import Picture
from deblur.restoration.tiles import restore_in_tiles
from deblur.training.restorer import Restorer, choose_device, load
from deblur.training.run import run_of
from deblur.training.settings import check_keys, section

log = logging.getLogger(__name__)

_KEYS = ("run", "input", "output", "psf", "tile", "overlap", "batch_size", "compare", "accelerator", "allow")


def restore(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Restore a picture, or all in a folder; returns 0, or 1 if some could not be restored.

    Raises:
        UsageError: a setting is refused, or the only picture could not be restored; nothing was written.
    """
    check_keys(settings, _KEYS)
    with section(""):
        source = check_path("input", settings["input"], "a picture, or a folder with pictures")
        target = check_path("output", settings["output"], "a folder")
        tile = check_integer("tile", settings["tile"], low=64)
        overlap = check_integer("overlap", settings["overlap"], low=0, high=tile // 2 - 1)
        batch_size = check_integer("batch_size", settings["batch_size"], low=1)
        compare = check_flag("compare", settings["compare"])
        if target.exists() and not target.is_dir():
            raise ArgumentError("output", settings["output"], "a folder")
    files = _files(source)
    goals = {file: target / file.relative_to(source if source.is_dir() else source.parent) for file in files}
    beside = {file: goal.with_name(f"{goal.stem}_compare{goal.suffix}") for file, goal in goals.items()}
    taken = {file.resolve(): "is an input" for file in files}
    for goal in (*goals.values(), *(beside.values() if compare else ())):
        if goal.resolve() in taken:
            raise UsageError(f"output={settings['output']}: {goal} {taken[goal.resolve()]}, and would be overwritten")
        taken[goal.resolve()] = "is also the restoration of another input"
    try_folder(target)
    device = choose_device(settings["accelerator"])
    with section(""):
        check_path("run", settings["run"], "a run")
    network = load(settings["run"], allow=settings["allow"]).to(device)
    channels = run_of(settings["run"], "run").channels
    psf = _psf(settings["psf"], network)

    def on_tiles(tiles: Tensor) -> Tensor:
        return network(tiles) if psf is None else network(tiles, psf.to(device).expand(len(tiles), -1, -1, -1))

    def through(image: Tensor) -> Tensor:
        if psf is not None and psf.shape[-1] > min(tile, *image.shape[-2:]):
            side = psf.shape[-1]
            raise UsageError(
                f"psf={settings['psf']}: its {side}x{side} pixels are more than those of a tile or picture"
            )
        with torch.inference_mode():
            return restore_in_tiles(on_tiles, image.to(device), tile=tile, overlap=overlap, batch_size=batch_size)

    failed = []
    with Progress(console=make_console(), transient=True) as progress:
        for file in progress.track(files, description="restoring"):
            try:
                picture = Picture.read(file)
                made = picture.through(through, channels)
                picture.write(made, goals[file])
                if compare:
                    _write_compared(picture, made, beside[file])
            except (UsageError, RuntimeError, ValueError) as error:  # or a network that takes no images of this size
                line = shown(error) if isinstance(error, UsageError) else f"{file}: {shown(error)}"
                if source.is_file():
                    raise UsageError(line) from error
                failed.append(line)
    print(f"restored: {len(files) - len(failed)} of {len(files)}, in {target}")
    for line in failed:
        log.error("%s", line)
    return int(bool(failed))


def _psf(path: Any, network: Restorer) -> Tensor | None:
    """The PSF in a file, (1, 1, K, K), for a network that takes one, its mean position moved to the central pixel.

    Raises:
        UsageError: it is missing, of no use to the network, or cannot be read.
    """
    if not network.takes_psf:
        if path is not None:
            raise UsageError(f"psf={path}: this run sees the blurred picture alone; leave psf out")
        return None
    if path is None:
        raise UsageError(
            "psf=null: must be a file with the PSF (.npy, .npz or a picture): this run is of task=nonblind"
        )
    try:
        psfs = KernelFile(path).psfs
    except ArgumentError as error:
        raise UsageError(f"psf={path}: must be {error.allowed}") from None
    if len(psfs) != 1:
        raise UsageError(f"psf={path}: must be one PSF, these are {len(psfs)}")
    return psfs


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UsageError(f"input={source}: there is no such file or folder")
    files = files_in(source, SUFFIXES)
    if not files:
        raise UsageError(f"input={source}: has no pictures ({', '.join(SUFFIXES)})")
    return files


def _write_compared(picture: Picture, made: Tensor, file: Path) -> None:
    """Write the picture and what was made of it side by side, upright, without transparency and EXIF."""
    joined = torch.cat([picture.upright(picture.pixels), picture.upright(made)], dim=2)
    about = {key: value for key, value in picture.about.items() if key != "exif"}
    Picture(joined, None, picture.deep, about).write(joined, file)
