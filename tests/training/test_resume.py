"""A run that ended in any way goes on exactly, or says why it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import torch
import yaml

from deblur.training.checkpoint import RunCheckpoint
from deblur.training.logger import read_history
from deblur.training.run import Run
from tests.conftest import TINY, assert_equal_weights, only_run, results, weights

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.mark.parametrize(  # 5 steps an epoch
    ("step", "ema"),
    [(1, []), (5, []), (9, []), (3, ["ema.decay=0.9"]), (5, ["ema.decay=0.9"]), (7, ["ema.decay=0.9"])],
    ids=lambda value: f"step{value}" if isinstance(value, int) else "ema" if value else "plain",
)
def test_a_resumed_run_equals_the_uninterrupted_run(door, tmp_path, monkeypatch, step, ema):
    door(*TINY, *ema, "output_root=whole")
    whole = only_run(tmp_path / "whole")
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, *arguments):
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        ended = door(*TINY, *ema, "output_root=cut")
    cut = only_run(tmp_path / "cut")
    assert ended.code == 143
    assert ended.err.strip().endswith(f"resume=cut/cnn/{cut.name}")
    assert Run(cut).state() == "interrupted"
    ended = door(f"resume={cut}")
    assert ended.code == 0, ended.err
    for key in ("metrics", "best_epoch"):
        assert results(cut)[key] == results(whole)[key]
    for name in ("best", "last"):
        assert_equal_weights(weights(cut, name), weights(whole, name))
    cut_history, whole_history = read_history(cut), read_history(whole)
    for name in ("train/loss", "val/psnr", "test/psnr"):
        assert cut_history[name] == whole_history[name]


@pytest.mark.parametrize("step", [2, 3], ids=["between", "within"])  # of the two batches of a step
def test_a_run_with_accumulated_gradients_resumes_exactly(door, tmp_path, monkeypatch, step):
    settings = (*TINY, "trainer.accumulate_grad_batches=2", "trainer.log_every_n_steps=1", "data.batch_size=20")
    door(*settings, "output_root=whole")
    whole = only_run(tmp_path / "whole")
    history = read_history(whole)
    assert [place for place, _ in history["train/loss_step"]] == list(range(1, 9))
    assert history["train/loss"][0][1] == pytest.approx(history["train/loss_step"][0][1], rel=0.5)
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, trainer, module, outputs, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        assert door(*settings, "output_root=cut").code == 143
    cut = only_run(tmp_path / "cut")
    assert door(f"resume={cut}").code == 0
    assert_equal_weights(weights(cut), weights(whole))


def test_a_run_with_init_that_was_killed_before_its_first_checkpoint_starts_from_init_again(door, run, tmp_path):
    settings = (*TINY, f"init={run}", "optimizer.lr=0.0", "output_root=next")
    assert door(*settings).code == 0
    killed = only_run(tmp_path / "next")
    shutil.rmtree(killed / "checkpoints")
    (killed / "checkpoints").mkdir()
    (killed / "results.json").write_text(json.dumps({**results(killed), "status": "running"}))
    assert Run(killed).state() == "interrupted"
    ended = door(f"resume={killed}")
    assert ended.code == 0, ended.err
    assert_equal_weights(weights(killed), weights(run, "best"))
    assert len(read_history(killed)["val/psnr"]) == 2  # the events of the first try are void


def test_resume_refuses_other_settings_by_name_and_says_so_of_a_finished_run(door, run):
    ended = door(f"resume={run}", "blur.length=7")
    assert ended.code == 2
    assert "blur.length=7" in ended.err
    assert "trainer.max_epochs" in ended.err
    ended = door(f"resume={run}", "blur.length=5", "model=cnn")  # the same as they are
    assert ended.code == 0, ended.err
    ended = door(f"resume={run}")
    assert ended.code == 0
    assert "finished" in ended.out
    assert "a larger trainer.max_epochs (now 2) trains on" in ended.out
    ended = door(f"resume={run}", "trainer.max_epochs=3")
    assert ended.code == 0
    assert len(read_history(run)["val/psnr"]) == 3
    assert results(run)["status"] == "finished"


@pytest.fixture
def cut(door, tmp_path, monkeypatch):
    """A tiny run of one process that was stopped after the seventh of its ten steps, within the second epoch."""
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, *arguments):
        if trainer.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        assert door(*TINY, "output_root=cut").code == 143
    return only_run(tmp_path / "cut")


def test_an_epoch_begun_by_one_process_is_refused_to_two_before_anything_is_written(door, cut, monkeypatch):
    def content():
        return {path: path.read_bytes() for path in cut.rglob("*") if path.is_file()}

    before = content()
    with monkeypatch.context() as patch:
        patch.setattr("deblur.training.train._execute", lambda *_: 77)  # would start the second process
        ended = door(f"resume={cut}", *TWO)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: trainer.devices: the run stopped within an epoch of 5 batches for each process")
    assert content() == before
    ended = door(f"resume={cut}")
    assert ended.code == 0, ended.err


def test_a_run_is_not_shortened_to_less_than_it_has_done(door, cut):
    ended = door(f"resume={cut}", "trainer.max_epochs=1")
    assert ended.code == 2
    assert ended.err == "error: trainer.max_epochs=1: the run is in epoch 2 already\n"


def test_a_run_of_part_of_its_batches_goes_on_in_other_processes_after_an_epoch(door, tmp_path, monkeypatch):
    assert door(*TINY, "trainer.limit_train_batches=3").code == 0
    run = only_run(tmp_path / "outputs")
    monkeypatch.setattr("deblur.training.train._execute", lambda *_: 77)  # would start the second process
    assert door(f"resume={run}", "trainer.max_epochs=3", *TWO).code == 77


def test_a_run_of_two_machines_goes_on_on_one(door, cut):
    config = yaml.safe_load((cut / "config.yaml").read_text())
    config["trainer"] |= {"num_nodes": 2, "strategy": "ddp"}
    (cut / "config.yaml").write_text(yaml.safe_dump(config))
    ended = door(f"resume={cut}", "trainer=cpu")
    assert ended.code == 0, ended.err
    assert Run(cut).config()["trainer"]["num_nodes"] == 1


def test_a_checkpoint_whose_place_in_the_epoch_is_lost_is_refused(door, cut):
    checkpoint = torch.load(cut / "checkpoints/last.ckpt", weights_only=True)
    del checkpoint["MNIST"]["epoch"]
    torch.save(checkpoint, cut / "checkpoints/last.ckpt")
    ended = door(f"resume={cut}")
    assert ended.code == 2
    assert "last.ckpt: holds no training that could go on" in ended.err


def test_a_run_in_use_is_refused(door, run):
    (run / "results.json").write_text(json.dumps({**results(run), "status": "running"}))
    holder = Run(run)
    holder.lock()
    try:
        assert holder.state() == "running"
        ended = door(f"resume={run}")
    finally:
        holder.unlock()
    assert ended.code == 2
    assert "another process" in ended.err


def test_init_starts_from_another_runs_weights(door, run, tmp_path):
    ended = door(*TINY, f"init={run}", "output_root=next", "optimizer.lr=0.0")
    assert ended.code == 0, ended.err
    assert_equal_weights(weights(only_run(tmp_path / "next")), weights(run, "best"))
    ended = door(*TINY, f"init={run}", "output_root=none", "model.width=4")
    assert ended.code == 2
    assert "init=" in ended.err
    assert "do not fit" in ended.err
    assert not (tmp_path / "none").exists()


def test_a_run_says_finished_only_when_all_its_files_are_there(door, figures, tmp_path, monkeypatch):
    from deblur.training import train

    def stop(run, *_):
        assert results(run.path)["status"] == "running"
        os.kill(os.getpid(), signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(train, "draw_figures", stop)
        ended = door(*TINY)
    cut = only_run(tmp_path / "outputs")
    assert ended.code == 128 + signal.SIGUSR1
    assert ended.err.strip().endswith(f"resume=outputs/cnn/{cut.name}")
    assert not (cut / "figures/curves.png").exists()
    ended = door(f"resume={cut}")
    assert ended.code == 0, ended.err
    assert results(cut)["status"] == "finished"
    assert (cut / "figures/curves.png").exists()


def test_a_link_out_of_a_run_is_refused(door, run, tmp_path):
    (tmp_path / "precious").mkdir()
    shutil.rmtree(run / "figures")
    (run / "figures").symlink_to(tmp_path / "precious")
    ended = door(f"resume={run}", "trainer.max_epochs=3")
    assert ended.code == 2
    assert "figures: is a symbolic link" in ended.err
    (run / "figures").unlink()
    (run / "figures").mkdir()
    (run / "figures/again.png").symlink_to(run / "config.yaml")  # one that stays inside is nobody's harm
    assert door(f"resume={run}").code == 0
