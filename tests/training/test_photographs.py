"""Photographs from the command line to a run, its evaluation and a clear line for what is wrong."""

from __future__ import annotations

import pytest

from deblur.evaluation.evaluate import evaluate_runs
from deblur.metrics import image_metrics
from tests.conftest import only_run, results

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
