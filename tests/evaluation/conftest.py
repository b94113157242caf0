"""Runs as trainings leave them, and the door that evaluates them."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from tests.training.test_weights import made_run, publish, save


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """A folder of runs as trainings leave them, whole and broken."""
    folder = tmp_path_factory.mktemp("runs")
    made_run(folder / "mine", tiny_root, "blur.noise=0.02", "blur.anxiety=0.5")
    made_run(folder / "other", tiny_root, "blur.noise=0.02", "blur.anxiety=0.5", "model.width=9")
    made_run(folder / "longer", tiny_root, "blur.noise=0.02", "blur.anxiety=0.5", "blur.length=7")
    made_run(folder / "panned", tiny_root, "blur=line")
    made_run(folder / "reseeded", tiny_root, "blur.noise=0.02", "blur.anxiety=0.5", "data.eval_seed=3")
    made_run(folder / "dense", tiny_root, "model=mlp", "model.width=16", "model.depth=1")
    publish(folder / "mine", folder / "published")
    for name in ("untrained", "cut", "misfit", "foreign", "bare"):
        shutil.copytree(folder / "mine", folder / name)
    (folder / "untrained/checkpoints/best.ckpt").unlink()
    (folder / "cut/checkpoints/best.ckpt").write_bytes((folder / "mine/checkpoints/best.ckpt").read_bytes()[:2000])
    saved = torch.load(folder / "mine/checkpoints/best.ckpt", weights_only=True)
    model = {**saved["hyper_parameters"]["model"], "width": 9}
    save(folder / "misfit", saved["state_dict"], {**saved["hyper_parameters"], "model": model})
    change(folder / "foreign", "data", {"_target_": "tests.evaluation.made_up.Photographs"})
    change(folder / "bare", "blur", None)
    return folder


def change(run: Path, part: str, value: object) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {part: value}))


@pytest.fixture
def evaluate(door):
    return partial(door, config="evaluate", task="deblur.evaluation.evaluate:evaluate")


@pytest.fixture
def measure(evaluate, tmp_path: Path):
    """Evaluate into a folder, which must succeed; gives what was found, and how the door ended."""

    def call(*arguments: str):
        ended = evaluate(*arguments, "output=found")
        assert ended.code == 0, ended.err
        (file,) = (tmp_path / "found").glob("*.json")
        found = json.loads(file.read_text())
        shutil.rmtree(tmp_path / "found")
        return found, ended

    return call
