"""A published run tells nothing of the machine that it was made on, and still opens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

import deblur
from tests.training.test_weights import made_run

PUBLISH = {"config": "publish", "task": "deblur.training.publish:publish"}
EVALUATE = {"config": "evaluate", "task": "deblur.evaluation.evaluate:evaluate"}


@pytest.fixture
def published(door, tmp_path, tiny_root):
    """A run with PSFs from a file, and what is published of it, the file being gone."""
    np.save(tmp_path / "psfs.npy", np.ones((2, 3, 3)))
    run = made_run(tmp_path / "mine", tiny_root, "blur=kernels", f"blur.path={tmp_path}/psfs.npy")
    ended = door(f"run={run}", "output=published", **PUBLISH)
    assert ended.code == 0, ended.err
    (tmp_path / "psfs.npy").rename(tmp_path / "moved.npy")
    return tmp_path / "published"


def test_no_place_of_the_machine_is_published(published, tmp_path):
    texts = [file.read_text() for file in published.rglob("*") if file.suffix in (".yaml", ".json")]
    assert len(texts) >= 2
    assert not any(str(tmp_path) in text or "psfs.npy" in text for text in texts)
    config = yaml.safe_load((published / "config.yaml").read_text())
    assert (config["blur"]["path"], config["data"]["root"]) == ("<psfs>", "data")


def test_its_network_needs_no_psfs_and_its_test_pairs_say_which_are_missing(published, door):
    assert deblur.load(published)(torch.zeros(1, 1, 28, 28)).shape == (1, 1, 28, 28)
    ended = door(f"run={published}", "metrics=[mse]", **EVALUATE)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "blur.path=<psfs>: must be a .npy file" in line
    ended = door(f"run={published}", "metrics=[mse]", "blur.path=moved.npy", **EVALUATE)
    assert ended.code == 0, ended.err
