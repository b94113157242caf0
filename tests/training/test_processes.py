"""Runs of two processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, TINY, only_run, results

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2"]


@pytest.mark.slow
def test_two_processes_test_a_checkpoint_to_the_same_metrics(run, tmp_path, shell_environment):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "results.json").write_text(json.dumps({**results(run), "status": "interrupted", "metrics": {}}))
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    command = [sys.executable, *TORCHRUN, str(ROOT / "train.py"), f"resume={copy}", *two]
    ended = subprocess.run(command, cwd=tmp_path, env=shell_environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    for name, value in results(run)["metrics"].items():
        assert results(copy)["metrics"][name] == pytest.approx(value, abs=1e-5)


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path, shell_environment):
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    tiny = [setting for setting in TINY if not setting.startswith("trainer=")]
    command = [sys.executable, str(ROOT / "train.py"), *tiny, *two]
    ended = subprocess.run(command, cwd=tmp_path, env=shell_environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path / "outputs")
    assert results(run)["status"] == "finished"
    assert ended.stdout.count("PSNR, dB") == 1
    assert len(list(run.glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_two_processes_whose_loss_is_no_number_end_with_one_message(tmp_path, shell_environment):
    tiny = [setting for setting in TINY if not setting.startswith("trainer=")]
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.gradient_clip_val=null"]
    wrong = ["module.nan_patience=0", "optimizer.lr=1e25", "optimizer=sgd", "optimizer.fused=false", "scheduler=none"]
    command = [sys.executable, str(ROOT / "train.py"), *tiny, *two, *wrong]
    ended = subprocess.run(command, cwd=tmp_path, env=shell_environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 1
    assert "no longer numbers" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert results(only_run(tmp_path / "outputs"))["status"] == "failed"
