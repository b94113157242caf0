"""The jobs of a sweep: several at a time on this machine, or through one of Hydra's launchers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from deblur.training.checkpoint import RunCheckpoint
from tests.conftest import ROOT, TINY, copied, table

SHORT = (*TINY, "trainer.max_epochs=1", "sweep.name=mine")
PARALLEL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def test_parallel_jobs_lose_no_row_and_share_no_folder(door, tmp_path):
    ended = door("-m", *SHORT, "seed=1,2,3,4", *PARALLEL)
    assert ended.code == 0, ended.err
    rows = table(tmp_path / "outputs/sweeps/mine")
    assert {row["run"] for row in rows} == {f"seed={seed}" for seed in (1, 2, 3, 4)}
    assert {row["status"] for row in rows} == {"finished"}
    assert len({row["test/psnr"] for row in rows}) == 4


@copied
def test_a_parallel_job_that_is_killed_stands_in_the_table_and_is_tried_again(door, tmp_path, monkeypatch):
    original = RunCheckpoint.on_train_batch_end

    def vanish(self, trainer, module, *arguments):
        if module.hparams.seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, trainer, module, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", vanish)
        ended = door("-m", *SHORT, "seed=1,2,3", *PARALLEL)
    assert ended.code == 1
    assert ended.err.strip().endswith("error: seed=2 failed: its process was ended by SIGKILL")
    folder = tmp_path / "outputs/sweeps/mine"
    assert {row["run"]: row["status"] for row in table(folder)} == {
        "seed=1": "finished",
        "seed=2": "failed",
        "seed=3": "finished",
    }
    ended = door("-m", *SHORT, "seed=1,2,3", *PARALLEL)
    assert ended.code == 0, ended.err
    assert {row["status"] for row in table(folder)} == {"finished"}


@copied
def test_parallel_jobs_that_are_interrupted_are_continued(door, tmp_path, monkeypatch):
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, module, *arguments):
        if module.hparams.seed == 2 and trainer.global_step == 3:  # of 140
            os.kill(os.getppid(), signal.SIGINT)
        return original(self, trainer, module, *arguments)

    command = ["-m", *TINY, "seed=1,2", "sweep.name=mine", *PARALLEL, "trainer.max_epochs=20"]
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        ended = door(*command)
    assert ended.code == 130
    assert "the same command continues it" in ended.err.strip().splitlines()[-1]
    folder = tmp_path / "outputs/sweeps/mine"
    assert {row["run"]: row["status"] for row in table(folder)}["seed=2"] == "interrupted"
    ended = door(*command)
    assert ended.code == 0, ended.err
    assert "continued" in ended.err
    assert {row["status"] for row in table(folder)} == {"finished"}


@pytest.mark.parametrize("jobs", ["0", "-2", "two", "true"])
def test_a_wrong_number_of_parallel_jobs_is_one_line(door, tmp_path, jobs):
    ended = door("-m", *SHORT, "seed=1,2", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}")
    assert ended.code == 2
    assert (
        ended.err.strip()
        == f"error: hydra.launcher.n_jobs={jobs}: must be a number of jobs, or -1 for one on each GPU or else core"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_jobs_go_through_submitit(tmp_path, shell_environment):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    command = [sys.executable, str(ROOT / "train.py"), "-m", *SHORT, "seed=1,2", "hydra/launcher=submitit_local"]
    ended = subprocess.run(command, cwd=tmp_path, env=shell_environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    rows = table(tmp_path / "outputs/sweeps/mine")
    assert {row["run"]: row["status"] for row in rows} == {"seed=1": "finished", "seed=2": "finished"}
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
