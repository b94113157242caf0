"""Digits, a network and a training so small that a run takes about a second; doors called in this process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from deblur.cli import CONFIGS, door

TINY = (
    "model=cnn",
    "model.width=8",
    "model.depth=2",
    "data.batch_size=32",
    "data.val_size=40",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "blur.length=5",
)
TRAIN = ("train", "deblur.training.train:train")


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an IDX file of unsigned bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_digits(root: Path, names: Sequence[str] = ("MNIST",)) -> Path:
    """The root, with data sets of these names in it: 200 training and 61 test images of bright bars on black."""
    random = np.random.default_rng(0)
    for name in names:
        for part, count in (("train", 200), ("t10k", 61)):
            images = np.zeros((count, 28, 28), np.uint8)
            for image in images:
                y, x = random.integers(5, 14, 2)
                height, width = random.integers(2, 9, 2)
                image[y : y + height, x : x + width] = random.integers(128, 256)
            write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", images)
    return root


@dataclass
class Ended:
    """How a door ended: exit code, and what it printed."""

    code: int
    out: str
    err: str


def call_door(folder: Path, data: Path, *arguments: str, way: tuple[str, str] = TRAIN) -> Ended:
    """A command line run in this process, as if typed in the folder.

    Args:
        folder: to be in.
        data: root of the digits.
        *arguments: of the command.
        way: the config's name and the task, as `door` takes them.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    handlers = list(logging.getLogger().handlers)
    with (
        contextlib.chdir(folder),
        patch.dict(os.environ, {"DEBLUR_DATA": str(data), "COLUMNS": "200"}),
        patch.object(sys, "argv", [f"{way[0]}.py", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            door(*way)
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            logging.getLogger().handlers[:] = handlers
    return Ended(code, out.getvalue(), err.getvalue())


def shell_command(*arguments: str, script: str = "train.py") -> list[str]:
    """The command line for a process of its own."""
    return [sys.executable, str(CONFIGS.parent / script), *arguments]


def shell_environment(data: Path) -> dict[str, str]:
    """The environment for it: this package, these digits, one thread."""
    path = os.pathsep.join(filter(None, [str(CONFIGS.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "DEBLUR_DATA": str(data), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def only_run(root: Path) -> Path:
    """The folder of the one run somewhere under a folder."""
    (run,) = [path.parent for path in root.rglob("results.json")]
    return run


def is_one_line(ended: Ended) -> str | None:
    """What is wrong with how a refused command ended, or None: exit code 2, and one line that begins with error."""
    lines = ended.err.strip().splitlines()
    if ended.code != 2 or ended.out or len(lines) != 1 or not lines[0].startswith("error: "):
        return f"exit code {ended.code}, {len(lines)} lines: {ended.err.strip()[-300:]}"
    return None


def trained_run(folder: Path, data: Path) -> Path:
    """A finished tiny run in the folder, with what it would be published with as well: read, it has both.

    Args:
        folder: made.
        data: root of the digits.
    """
    from safetensors.torch import save_file

    from deblur.training.run import PUBLISHED
    from deblur.training.weights import read_weights

    folder.mkdir(parents=True)
    # Without a schedule, whose rates depend on where it ends: from an earlier checkpoint it comes to the same.
    ended = call_door(folder, data, *TINY, "scheduler=none", "output_root=.")
    if ended.code:
        raise RuntimeError(ended.err)
    run = only_run(folder)
    state = read_weights(run / "checkpoints/best.ckpt").state
    save_file({name: weight.contiguous() for name, weight in state.items()}, run / PUBLISHED)
    return run
