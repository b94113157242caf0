"""Runs of two processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from pytorch_lightning.utilities import rank_zero_only

from deblur.faults.tiny import call_door
from deblur.training.averaging import MovingAverage
from deblur.training.checkpoint import RunCheckpoint
from tests.conftest import ROOT, TINY, Ended, assert_equal_weights, only_run, results, weights

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2"]
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
TINY_OF_TWO = (*(setting for setting in TINY if not setting.startswith("trainer=")), *TWO)

copies = pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available(), reason="no safe copies of a process that uses a GPU"
)


def in_two_processes(folder: Path, data: Path, *arguments: str) -> list[Ended]:
    """How a command line ended in the first and in the second of two processes, started as torchrun does.

    They are copies of this one: they need not import torch again, and what is patched here is patched there.
    """
    context, port = multiprocessing.get_context("fork"), find_free_network_port()
    processes, answers = [], []
    for rank in range(2):
        here, there = context.Pipe(duplex=False)
        processes.append(context.Process(target=_process, args=(rank, port, there, folder, data, *arguments)))
        processes[-1].start()
        there.close()
        answers.append(here)
    deadline = time.monotonic() + 280
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    hang = [process for process in processes if process.is_alive()]
    for process in hang:
        process.kill()
        process.join()
    assert not hang
    return [answer.recv() for answer in answers]


def _process(rank: int, port: int, answer: Connection, folder: Path, data: Path, *arguments: str) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tests"}
    os.environ.update({name: str(value) for name, value in {**place, **address}.items()})
    rank_zero_only.rank = rank  # Lightning has looked before
    try:
        answer.send(call_door(folder, data, *arguments))
    except Exception as error:  # the other one has failed, and says why
        answer.send(Ended(1, "", "".join(traceback.format_exception(error))))
    os._exit(0)  # what this process inherited, the first one will close


@copies
@pytest.mark.slow
def test_two_processes_told_to_stop_within_an_epoch_save_and_go_on_exactly(tmp_path, tiny_root, monkeypatch):
    # A step is of two batches, an epoch of 80 for each process: they agree after the 50th.
    settings = (*TINY_OF_TWO, "data.batch_size=1", "trainer.accumulate_grad_batches=2", "ema.decay=0.9")
    ended = in_two_processes(tmp_path, tiny_root, *settings, "output_root=whole")
    assert [one.code for one in ended] == [0, 0], ended[0].err
    whole = only_run(tmp_path / "whole")
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.global_rank, trainer.current_epoch, batch_idx) == (0, 1, 10):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, trainer, module, outputs, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        ended = in_two_processes(tmp_path, tiny_root, *settings, "output_root=cut")
    assert [one.code for one in ended] == [143, 0], ended[0].err
    cut = only_run(tmp_path / "cut")
    place = torch.load(cut / "checkpoints/last.ckpt", weights_only=True)["MNIST"]
    assert (place["epoch"], place["batches"]) == (1, 80)
    assert 10 < place["position"] < 80
    ended = in_two_processes(tmp_path, tiny_root, f"resume={cut}")
    assert [one.code for one in ended] == [0, 0], ended[0].err
    found, expected = (results(run)["metrics"] for run in (cut, whole))
    # The losses of both processes' batches are summed in another order.
    assert found.pop("train/loss") == pytest.approx(expected.pop("train/loss"), rel=1e-6)
    assert found == expected
    for name in ("best", "last"):
        assert_equal_weights(weights(cut, name), weights(whole, name))


@copies
@pytest.mark.slow
def test_two_processes_average_to_the_same_weights_and_one_finds_their_metrics(door, tmp_path, tiny_root, monkeypatch):
    end = MovingAverage.on_train_end

    def keep(self, trainer, module):
        trained = {name: weight.clone() for name, weight in module.state_dict().items()}
        end(self, trainer, module)
        torch.save((trained, module.state_dict()), tmp_path / f"{trainer.global_rank}.pt")

    with monkeypatch.context() as patch:
        patch.setattr(MovingAverage, "on_train_end", keep)
        ended = in_two_processes(tmp_path, tiny_root, *TINY_OF_TWO, "ema.decay=0.9")
    assert [one.code for one in ended] == [0, 0], ended[0].err
    run = only_run(tmp_path / "outputs")
    (trained, average), (trained_there, average_there) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert_equal_weights(trained, trained_there)
    assert_equal_weights(average, average_there)
    assert_equal_weights(average, weights(run))
    assert any(not torch.equal(average[name], trained[name]) for name in average)
    of_two = results(run)["metrics"]
    (run / "results.json").write_text(json.dumps({**results(run), "status": "interrupted", "metrics": {}}))
    ended = door(f"resume={run}", "trainer=cpu")
    assert ended.code == 0, ended.err
    for name, value in of_two.items():
        assert results(run)["metrics"][name] == pytest.approx(value, abs=1e-5)


@pytest.mark.slow
def test_two_processes_test_a_checkpoint_to_the_same_metrics(run, tmp_path, shell_environment):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "results.json").write_text(json.dumps({**results(run), "status": "interrupted", "metrics": {}}))
    command = [sys.executable, *TORCHRUN, str(ROOT / "train.py"), f"resume={copy}", *TWO]
    ended = subprocess.run(command, cwd=tmp_path, env=shell_environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    for name, value in results(run)["metrics"].items():
        assert results(copy)["metrics"][name] == pytest.approx(value, abs=1e-5)


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path, shell_environment):
    command = [sys.executable, str(ROOT / "train.py"), *TINY_OF_TWO]
    ended = subprocess.run(command, cwd=tmp_path, env=shell_environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path / "outputs")
    assert results(run)["status"] == "finished"
    assert ended.stdout.count("PSNR, dB") == 1
    assert len(list(run.glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_two_processes_whose_loss_is_no_number_end_with_one_message(tmp_path, shell_environment):
    wrong = [
        "trainer.gradient_clip_val=null",
        "module.nan_patience=0",
        "optimizer.lr=1e25",
        "optimizer=sgd",
        "optimizer.fused=false",
        "scheduler=none",
    ]
    command = [sys.executable, str(ROOT / "train.py"), *TINY_OF_TWO, *wrong]
    ended = subprocess.run(command, cwd=tmp_path, env=shell_environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 1
    assert "no longer numbers" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert results(only_run(tmp_path / "outputs"))["status"] == "failed"
