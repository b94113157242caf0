"""A sweep: a run for each combination, one table, failures that stay small, and the same command continues it."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import yaml

from deblur.faults.tiny import call_door
from deblur.summary import METRICS
from deblur.sweep import expand
from deblur.training import train
from deblur.training.checkpoint import RunCheckpoint
from deblur.training.run import Run
from tests.conftest import ROOT, TINY, table

SHORT = (*TINY, "trainer.max_epochs=1", "sweep.name=mine")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_root):
    """A folder in which a small sweep has ended."""
    folder = tmp_path_factory.mktemp("swept")
    ended = call_door(folder, tiny_root, *SHORT, "-m", "model.depth=2,3")
    assert ended.code == 0, ended.err
    return folder


def test_a_grid_makes_a_run_for_each_combination_and_one_table(door, tmp_path):
    ended = door(*SHORT, "-m", "model.depth=2,3", "blur.length=3,5")
    assert ended.code == 0, ended.err
    folder = tmp_path / "outputs/sweeps/mine"
    names = {f"model.depth={depth}_blur.length={length}" for depth in (2, 3) for length in (3, 5)}
    assert {path.parent.name for path in folder.glob("*/results.json")} == names
    rows = table(folder)
    assert {row["run"] for row in rows} == names
    reached = [float(row["val/psnr"]) for row in rows]
    assert reached == sorted(reached, reverse=True)
    for row in rows:
        metrics = json.loads((folder / row["run"] / "results.json").read_text())["metrics"]
        assert all(float(row[name]) == metrics[name] for name in METRICS)
        assert row["best_epoch"] == "1"
        assert row["run"] == f"model.depth={row['model.depth']}_blur.length={row['blur.length']}"
    assert (folder / "summary.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "summary.md").read_text()
    assert text.count("\n| ") == 2 + 4  # header, rule and a line for each run
    assert "status" not in text  # all of them are finished
    for words in ("job 4 of 4", "left)"):
        assert words in ended.err
    for words in ("mine, by val/psnr", "val PSNR, dB", "test PSNR, dB", "model.depth", "tensorboard --logdir"):
        assert words in ended.out


def test_hparams_hold_every_swept_key_and_metric(door, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    assert door(*SHORT, "-m", "model.depth=2,3").code == 0
    runs = list((tmp_path / "outputs/sweeps/mine").glob("model*"))
    assert len(runs) == 2
    for run in runs:
        events = EventAccumulator(str(run))
        events.Reload()
        content = HParamsPluginData()
        content.ParseFromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
        hparams = content.session_start_info.hparams
        assert hparams["model.depth"].number_value == float(run.name[-1])
        assert hparams["model"].string_value == "cnn"
        content.ParseFromString(events.SummaryMetadata("_hparams_/experiment").plugin_data.content)
        assert [column.name for column in content.experiment.hparam_infos if column.differs] == ["model.depth"]
        assert "test/psnr" in [metric.name.tag for metric in content.experiment.metric_infos]


def test_a_job_that_is_wrong_only_together_fails_alone(door, tmp_path):
    # Length 14 fits the digits with registration centroid, not with start.
    ended = door(*SHORT, "-m", "blur.length=5,14", "blur.registration=centroid,start")
    assert ended.code == 1
    folder = tmp_path / "outputs/sweeps/mine"
    rows = {row["run"]: row for row in table(folder)}
    assert sorted(row["status"] for row in rows.values()) == ["failed", "finished", "finished", "finished"]
    assert "blur.length=14" in rows["blur.length=14_blur.registration=start"]["error"]
    assert list(rows)[-1] == "blur.length=14_blur.registration=start"
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("error: blur.length=14_blur.registration=start failed: blur.length=14")


def test_a_job_that_fails_while_it_runs_leaves_the_others_alone(door, tmp_path, monkeypatch):
    original = RunCheckpoint.on_train_batch_end

    def fail(self, trainer, module, *arguments):
        if module.hparams.model["depth"] == 3:
            raise RuntimeError("out of memory")
        return original(self, trainer, module, *arguments)

    monkeypatch.setattr(RunCheckpoint, "on_train_batch_end", fail)
    ended = door(*SHORT, "-m", "model.depth=2,3,4")
    assert ended.code == 1
    folder = tmp_path / "outputs/sweeps/mine"
    assert [row["status"] for row in table(folder)].count("finished") == 2
    assert json.loads((folder / "model.depth=3/results.json").read_text())["error"] == "out of memory"
    assert ended.err.strip().splitlines()[-1] == "error: model.depth=3 failed: out of memory"
    monkeypatch.undo()


def test_the_same_command_runs_only_what_is_not_finished(door, tmp_path, monkeypatch):
    whole = [*TINY, "-m", "model.depth=2,3", "seed=0,1"]
    assert door(*whole, "sweep.name=whole").code == 0
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, module, *arguments):
        if module.hparams.model["depth"] == 3 and module.hparams.seed == 0 and trainer.global_step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, trainer, module, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        ended = door(*whole, "sweep.name=cut", "sweep.metric=val/ssim")
    assert ended.code == 130
    assert ended.err.strip().endswith("model.depth=2,3 seed=0,1 sweep.metric=val/ssim sweep.name=cut")
    folder = tmp_path / "outputs/sweeps/cut"
    states = {row["run"]: row["status"] for row in table(folder)}
    assert sorted(states.values()) == ["finished", "finished", "interrupted", "new"]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("model.depth=2*/results.json")}
    ended = door(*whole, "sweep.name=cut")
    assert ended.code == 0, ended.err
    assert "2 of 4 jobs are finished already" in ended.err
    assert "continued" in ended.err
    assert before == {path: path.stat().st_mtime_ns for path in before}
    keep = ("run", *METRICS)
    one, other = ([{k: row[k] for k in keep} for row in table(folder.parent / name)] for name in ("cut", "whole"))
    assert one == other
    assert "±" in ended.out


def test_a_failed_job_is_tried_again(door, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", lambda *_: 1 / 0)
        assert door(*SHORT, "-m", "model.depth=2,3").code == 1
    ended = door(*SHORT, "-m", "model.depth=2,3")
    assert ended.code == 0, ended.err
    assert {row["status"] for row in table(tmp_path / "outputs/sweeps/mine")} == {"finished"}


def test_a_job_that_another_process_runs_is_left_to_it(door, tmp_path):
    folder = tmp_path / "outputs/sweeps/mine"
    other = Run(folder / "model.depth=3")
    other.path.mkdir(parents=True)
    other.write_results(status="running", metrics={})
    other.lock()
    try:
        ended = door(*SHORT, "-m", "model.depth=2,3")
        assert other.results() == {"status": "running", "metrics": {}}
    finally:
        other.unlock()
    assert ended.code == 0, ended.err
    assert "1 jobs are being run by another process" in ended.err
    assert {row["run"]: row["status"] for row in table(folder)}["model.depth=2"] == "finished"


def test_a_job_that_was_killed_before_it_wrote_anything_begins_again_in_its_folder(door, tmp_path):
    folder = tmp_path / "outputs/sweeps/mine"
    killed = Run.create(folder, "model.depth=3")
    killed.lock()
    killed.unlock()
    ended = door(*SHORT, "-m", "model.depth=2,3")
    assert ended.code == 0, ended.err
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"model.depth=2", "model.depth=3"}
    assert {row["status"] for row in table(folder)} == {"finished"}


def test_a_job_that_another_process_begins_meanwhile_is_left_to_it(door, tmp_path, monkeypatch):
    folder = tmp_path / "outputs/sweeps/mine"
    prepare, others = train._prepare, []

    def prepare_too_late(settings, run):
        if settings["model"]["depth"] == 3:
            others.append(Run.create(folder, settings["sweep"]["job"]))
            others[0].lock()
        return prepare(settings, run)

    monkeypatch.setattr(train, "_prepare", prepare_too_late)
    try:
        ended = door(*SHORT, "-m", "model.depth=2,3")
        assert others[0].state() == "running"
        assert others[0].results() == {}
    finally:
        others[0].unlock()
    assert ended.code == 0, ended.err
    assert "another process is working in this run" in ended.err
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"model.depth=2", "model.depth=3"}


def test_a_sweep_with_a_job_that_is_not_finished_does_not_end_well(door, tmp_path, monkeypatch):
    whole = train.train

    def lose(settings, typed):
        return 0 if settings["model"]["depth"] == 3 else whole(settings, typed)

    monkeypatch.setattr(train, "train", lose)
    ended = door(*SHORT, "-m", "model.depth=2,3")
    assert ended.code == 1
    assert {row["run"]: row["status"] for row in table(tmp_path / "outputs/sweeps/mine")}["model.depth=3"] == "new"
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("error: not finished: model.depth=3; the same command continues: python train.py -m")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model.depth=2,4"], ["sweep.name=mine", "there: model.depth=2,3", "here: model.depth=2,4"]),
        (["model.depth=2,3", "seed=5"], ["sweep.name=mine", "here: seed=5"]),
        (["model.depth=2,3", "sweep.metric=test/foo"], ["sweep.metric=test/foo", "test/psnr"]),
        (["model.depth=2,''"], ["model.depth=", "empty"]),
        (["model.depth=2,3", "trainer=ddp", "sweep.name=other"], ["ddp", "-m"]),
        (["model.depth=2,3", "trainer.num_nodes=2", "sweep.name=other"], ["trainer.num_nodes=2", "-m"]),
        (["model.depth=2,3", "hydra.mode=RUN"], ["hydra.mode=RUN"]),
    ],
    ids=["other values", "other settings", "metric", "empty", "ddp", "nodes", "mode"],
)
def test_a_wrong_sweep_is_one_line_and_changes_nothing(door, swept, tmp_path, arguments, said):
    shutil.copytree(swept, tmp_path, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    ended = door(*SHORT, "-m", *arguments)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    for words in said:
        assert words in ended.err
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_a_finished_job_that_was_made_otherwise_is_neither_taken_for_this_one_nor_lost(door, tmp_path):
    sweep = [*SHORT, "-m", "model.depth=2,3", "blur.length=3,5"]
    assert door(*sweep).code == 0
    folder = tmp_path / "outputs/sweeps/mine"
    file = folder / "model.depth=3_blur.length=3/config.yaml"
    config = yaml.safe_load(file.read_text())
    config["optimizer"]["lr"] = 0.5
    file.write_text(yaml.safe_dump(config))
    shutil.rmtree(folder / "model.depth=2_blur.length=5")  # one that is still to be run
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended = door(*sweep)
    assert ended.code == 2
    assert "optimizer.lr=0.5" in ended.err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_order_of_the_overrides_does_not_make_another_sweep(door, tmp_path):
    assert door(*SHORT, "-m", "model.depth=2,3", "blur.length=3,5").code == 0
    folder = tmp_path / "outputs/sweeps/mine"
    before = table(folder)
    ended = door("-m", "blur.length=3,5", *SHORT, "model.depth=2,3")
    assert ended.code == 0
    assert "4 of 4 jobs are finished already" in ended.err
    assert table(folder) == before


def test_names_too_long_for_a_folder_are_cut(door, tmp_path):
    places = [f"output_root={tmp_path / 'outputs'}", *(f"early_stopping.min_delta=0.{'0' * 150}{n}" for n in (1, 2))]
    sweep = [
        places[0],
        *SHORT,
        "-m",
        f"{places[1]},{places[2].partition('=')[2]}",
        f"checkpoint.every_minutes=1{'0' * 99},5",
    ]
    ended = door(*sweep)
    assert ended.code == 0, ended.err
    names = [row["run"] for row in table(tmp_path / "outputs/sweeps/mine")]
    assert len(set(names)) == 4
    assert max(map(len, names)) < 200
    assert "4 of 4 jobs are finished already" in door(*sweep).err


def test_a_glob_stands_for_the_options_of_its_group(door, tmp_path):
    ended = door(*SHORT, "-m", "loss=glob(l*)")
    assert ended.code == 0, ended.err
    losses = {file.stem for file in (ROOT / "configs/loss").glob("l*.yaml")}
    assert {row["loss"] for row in table(tmp_path / "outputs/sweeps/mine")} == losses
    ended = door(*SHORT, "-m", "loss=glob(none*)", "sweep.name=other")
    assert ended.code == 2
    assert ended.err == "error: loss=glob(none*): stands for no job\n"


def test_sweeps_that_begin_in_the_same_second_have_folders_of_their_own(door, tmp_path, monkeypatch):
    """The folder is made once all is checked: by then another sweep may have taken the name."""
    check, sweeps = train.check_job, tmp_path / "outputs/sweeps"

    def check_late(settings):
        (sweeps / settings["sweep"]["name"]).mkdir(parents=True, exist_ok=True)  # by the other
        return check(settings)

    monkeypatch.setattr(train, "check_job", check_late)
    ended = door(*SHORT[:-1], "-m", "seed=1,2")
    assert ended.code == 0, ended.err
    theirs, mine = sorted(sweeps.iterdir(), key=lambda folder: len(folder.name))
    assert not list(theirs.iterdir())
    assert {row["status"] for row in table(mine)} == {"finished"}
    assert yaml.safe_load((mine / "seed=1/config.yaml").read_text())["sweep"]["name"] == mine.name


def test_a_job_that_another_sweep_of_the_name_has_begun_otherwise_is_not_taken_for_this_one(
    door, tmp_path, monkeypatch
):
    whole = train.train

    def begin_otherwise(settings, typed):
        other = {**settings, "optimizer": {**settings["optimizer"], "lr": 0.5}}
        if settings["model"]["depth"] == 3:
            whole(other, typed)
        return whole(settings, typed)

    monkeypatch.setattr(train, "train", begin_otherwise)
    ended = door(*SHORT, "-m", "model.depth=2,3")
    assert ended.code == 1
    assert "model.depth=3: was made with optimizer.lr=0.5; take another sweep.name" in ended.err
    assert {row["status"] for row in table(tmp_path / "outputs/sweeps/mine")} == {"finished"}


def test_overrides_expand_to_their_product():
    jobs, swept = expand(["seed=1,2", "blur.length=[5,9],[1,2]", "model=cnn"])
    assert swept == ["seed", "blur.length"]
    assert len(jobs) == 4
    assert ["seed=2", "blur.length=[1,2]", "model=cnn"] in jobs
