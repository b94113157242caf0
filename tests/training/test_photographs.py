"""Photographs from the command line to a run, its evaluation and a clear line for what is wrong."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
from PIL import Image

from deblur.data.ahead import THREADS
from deblur.evaluation.evaluate import evaluate_runs
from deblur.metrics import image_metrics
from deblur.training.checkpoint import RunCheckpoint
from tests.conftest import assert_equal_weights, only_run, results, weights

SMALL = [
    "data=images",
    "data.size=32",
    "data.crops=1",
    "data.eval_crops=1",
    "model=cnn",
    "model.width=8",
    "model.depth=2",
]
SMALL += ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.accelerator=cpu", "trainer.devices=1"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_run_on_the_offline_photographs_finishes(door, tmp_path, channels):
    ended = door(*SMALL, f"data.channels={channels}")
    assert ended.code == 0, ended.err
    assert "photographs" in ended.out
    run = only_run(tmp_path / "outputs")
    assert results(run)["metrics"]["test/psnr_blurred"] > 10
    assert f"channels: {channels}" in (run / "config.yaml").read_text()
    evaluated = door(f"run={run}", config="evaluate", task="deblur.evaluation.evaluate:evaluate")
    assert evaluated.code == 0, evaluated.err
    (table,) = (run / "evaluation").glob("*.csv")
    psnr = next(
        line.split(",") for line in table.read_text().splitlines() if line.startswith("cnn") and ",psnr," in line
    )
    assert float(psnr[3]) == pytest.approx(results(run)["metrics"]["test/psnr"], abs=1e-4)


def left_behind() -> list[str]:
    """Threads that decode photographs."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def test_a_run_that_was_stopped_while_photographs_were_read_ahead_goes_on_exactly(door, tmp_path, monkeypatch):
    settings = (*SMALL, "data.batch_size=4", "data.crops=2", "trainer.limit_train_batches=null")
    assert door(*settings, "output_root=whole").code == 0
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, *arguments):
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        assert door(*settings, "output_root=cut").code == 143
    assert not left_behind()
    cut = only_run(tmp_path / "cut")
    ended = door(f"resume={cut}")
    assert ended.code == 0, ended.err
    assert_equal_weights(weights(cut), weights(only_run(tmp_path / "whole")))
    assert not left_behind()


def test_a_damaged_photograph_ends_the_training_with_one_clear_line(door, tmp_path):
    for number, split in enumerate(("train", "train", "val", "test")):
        (tmp_path / split).mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / split / f"{number}.png")
    damaged = tmp_path / "train/1.png"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    small = [*SMALL, "data.root=.", "data.batch_size=1", "blur.length=3"]
    ended = door(*small)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: train/1.png: cannot be read as a picture")
    assert not (tmp_path / "outputs").exists()
    ended = door(*small, "data.cache_mb=0.012")  # room for the first one only: the other is read when it is its turn
    assert ended.code == 1
    assert "train/1.png: cannot be read as a picture" in ended.err
    assert "Traceback" not in ended.err
    assert "1.png" in results(only_run(tmp_path / "outputs"))["error"]
    assert not left_behind()


def test_baselines_know_that_the_scene_goes_on_beyond_the_borders(door, tmp_path):
    assert door(*SMALL, "data.channels=1").code == 0
    settings = ("data.eval_crops=4", "metrics=[psnr]", "baselines=wiener")
    evaluation = evaluate_runs(only_run(tmp_path / "outputs"), *settings)
    ((wiener, padding),) = evaluation.methods.values()
    assert padding == "reflect"
    pairs = evaluation.pairs[0 : len(evaluation.pairs)]

    def psnr(padding: str) -> float:
        restored = wiener.restore(pairs.blurred, pairs.motion.psf, padding)
        return float(image_metrics(restored, pairs.sharp)["psnr"].mean())

    assert psnr("reflect") > psnr("zeros") + 3
    assert float(evaluation.values[wiener.name]["psnr"].mean()) == pytest.approx(psnr("reflect"), abs=1e-4)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.root=nowhere", ["data.root=nowhere", "must be a folder"]),
        ("data.size=4000", ["data.root=", "as large as a crop of 4000"]),
        ("data.channels=2", ["data.channels=2", "1 for grey or 3 for colour"]),
        ("model.channels=1", ["model:", "cannot take these images"]),
    ],
)
def test_what_is_wrong_is_one_line(door, tmp_path, setting, said):
    ended = door(*SMALL, setting)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert not (tmp_path / "outputs").exists()
