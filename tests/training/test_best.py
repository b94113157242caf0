"""What a run says of its best checkpoint: its epoch, and what it reached on validation."""

from __future__ import annotations

import pytest

from deblur.metric_names import LOSS, NAMES
from deblur.training.logger import read_history
from tests.conftest import TINY, only_run, results

TESTED = {f"test/{name}" for name in NAMES}
VALIDATED = {f"val/{name}" for name in NAMES}


@pytest.mark.parametrize(("monitor", "best"), [("val/psnr", max), ("val/mse", min)])
def test_results_say_the_best_epoch_and_its_metrics_on_validation(door, tmp_path, monitor, best):
    changes = ["trainer.max_epochs=4", "optimizer.lr=0.2", "scheduler=none"]  # too fast: not each epoch is the best
    ended = door(*TINY, *changes, f"checkpoint.monitor={monitor}")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    found, history = results(run), read_history(run)
    values = [value for _, value in history[monitor]]
    assert found["best_epoch"] == values.index(best(values)) + 1
    assert set(found["metrics"]) == TESTED | VALIDATED | {LOSS}
    for name in (*VALIDATED, LOSS):
        assert found["metrics"][name] == pytest.approx(history[name][found["best_epoch"] - 1][1], rel=1e-6)
    reached = f"PSNR {found['metrics']['val/psnr']:.2f} dB on validation"
    assert f"weights of epoch {found['best_epoch']}, {reached}" in ended.out


def test_metrics_of_an_earlier_validation_are_not_taken_for_those_of_the_best_epoch(door, tmp_path):
    changes = ["trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", f"checkpoint.monitor={LOSS}"]
    assert door(*TINY, *changes).code == 0
    found = results(only_run(tmp_path / "outputs"))
    assert found["best_epoch"] == 3  # its loss is the lowest; the only validation was after the second
    assert set(found["metrics"]) == TESTED | {LOSS}


def test_without_validation_no_epoch_is_the_best(door, tmp_path):
    assert door(*TINY, "trainer.limit_val_batches=0").code == 0
    found = results(only_run(tmp_path / "outputs"))
    assert found["best_epoch"] is None
    assert set(found["metrics"]) == TESTED
