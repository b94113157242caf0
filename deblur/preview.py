"""A picture of a blur, and its fixed pairs as a file, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deblur.build import EVERYTHING, build, trusting
from deblur.data.module import DeblurDataModule
from deblur.errors import ArgumentError, UsageError, check_choice, check_integer, check_path
from deblur.figures import draw_blur
from deblur.folders import writing_to
from deblur.training.run import whole_file
from deblur.training.settings import check_keys, section

_KEYS = ("blur", "data", "split", "count", "output", "pairs")


def preview(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Write a picture of trajectories, PSFs and blurred images, and the fixed pairs if asked; returns 0.

    Raises:
        UsageError: a setting is refused, or a file cannot be written.
    """
    check_keys(settings, _KEYS)
    with section(""):
        split = check_choice("split", settings["split"], ("val", "test"))
        count = check_integer("count", settings["count"], low=1, high=64)
    with trusting(EVERYTHING):
        blur = build(settings["blur"], "blur")
        data: DeblurDataModule = build(settings["data"], "data", blur=blur)
    with section("data"):
        pairs = data.evaluation_pairs(split)
    with section("blur"):
        shown_pairs = pairs[: min(count, len(pairs))]
    output = _parent_made(settings["output"], "output", ".png")
    file = None if settings["pairs"] is None else _parent_made(settings["pairs"], "pairs", ".npz")
    title = f"{type(blur).__name__} on {len(shown_pairs.sharp)} {split} images ({data.origin})"
    with writing_to(output):
        draw_blur(output, shown_pairs, title)
    print(f"picture: {output}")
    if file is not None:
        with writing_to(file, "pairs"):
            _write_pairs(file, data, split)
        print(f"pairs: {file} (sharp, blurred{', psf' if data.knows_psf else ''} of all {len(pairs):,} {split} images)")
    return 0


def _write_pairs(file: Path, data: DeblurDataModule, split: str) -> None:
    """Write sharp and blurred (N, C, H, W) float32 in [0, 1] and psf (N, 1, K, K) if known, whole or not at all."""
    pairs = data.evaluation_pairs(split)
    everything = pairs[: len(pairs)]
    with whole_file(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            sharp=everything.sharp.numpy(),
            blurred=everything.blurred.numpy(),
            **({"psf": everything.motion.psf.numpy()} if data.knows_psf else {}),
        )


def _parent_made(path: str, key: str, suffix: str) -> Path:
    with section(""):
        file = check_path(key, path, f"a {suffix} file")
        if file.suffix.lower() != suffix:
            raise ArgumentError(key, path, f"a {suffix} file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{key}={path}: its folder cannot be made ({error.strerror})") from error
    if file.is_dir():
        raise UsageError(f"{key}={path}: must be a file, this is a folder")
    return file
