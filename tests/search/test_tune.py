"""tune.py: trial after trial, one answer, and the same command continues it."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("optuna")
from deblur.cli import settings_of
from deblur.training.checkpoint import RunCheckpoint
from deblur.training.logger import read_history
from deblur.training.module import Diverged
from deblur.training.run import Run
from deblur.training.settings import differences
from tests.conftest import ROOT, only_run, results
from tests.search.conftest import SHORT

ONE_EPOCH = (*SHORT, "trainer.max_epochs=1")


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "summary.csv").open() as file:
        return {row["trial"]: row for row in csv.DictReader(file)}


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_search_ends_with_a_table_pictures_and_an_experiment_that_train_composes(tune, door, configs, tmp_path):
    space = "search.space={blur.noise:{type:float,low:0,high:0.1},model.width:{type:categorical,choices:[8,16]}}"
    ended = tune(*(part for part in SHORT if not part.startswith("model.width")), "search.trials=3", space)
    assert ended.code == 0, ended.err
    folder = tmp_path / "outputs/searches/mine"
    rows = table(folder)
    assert sorted(rows) == ["trial-0000", "trial-0001", "trial-0002"]
    values = [float(row["val/psnr"]) for row in rows.values()]
    assert values == sorted(values, reverse=True)
    for name, row in rows.items():
        run = Run(folder / name)
        assert run.state() == row["status"] == "finished"
        assert run.results()["metrics"]["val/psnr"] == float(row["val/psnr"])
        assert not any(key.startswith("test/") for key in run.results()["metrics"])  # it has chosen nothing here
        assert run.config()["optimizer"]["lr"] == float(row["optimizer.lr"])
        assert run.config()["blur"]["noise"] == float(row["blur.noise"])
        assert run.best.is_file()
    for name in ("history", "importances"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    best = Run(folder / next(iter(rows)))
    lines = [line for line in ended.err.splitlines() if line.startswith("trial-")]
    assert len(lines) == 3
    for words in ("trial-0001 (2 of 3)", "optimizer.lr=", f"val/psnr {values[0]:.2f}", "best", "s left"):
        assert any(words in line for line in lines)
    assert "python train.py experiment=mine" in ended.out
    assert f"best: {best.path.name}" in ended.out
    assert (configs / "experiment/mine.yaml").read_text() == (folder / "best.yaml").read_text()
    composed, _ = settings_of("train", ["experiment=mine"])
    assert differences(best.config(), composed) == []
    assert composed["trainer"]["max_epochs"] == 2
    ended = door("experiment=mine", "output_root=trained")
    assert ended.code == 0, ended.err
    assert best.results()["metrics"]["val/psnr"] == max(  # the best epoch of the same training
        value for _, value in read_history(only_run(tmp_path / "trained"))["val/psnr"]
    )


def test_the_dashboard_has_every_trial_with_its_searched_settings(tune, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    assert tune(*ONE_EPOCH, "search.trials=1", "search.space={blur.anxiety:{type:float,low:0,high:2}}").code == 0
    run = tmp_path / "outputs/searches/mine/trial-0000"
    events = EventAccumulator(str(run))
    events.Reload()
    content = HParamsPluginData()
    content.ParseFromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    hparams = content.session_start_info.hparams
    config = Run(run).config()
    assert hparams["optimizer.lr"].number_value == config["optimizer"]["lr"]
    assert hparams["blur.anxiety"].number_value == config["blur"]["anxiety"]
    assert events.Scalars("val/psnr")[0].value == results(run)["metrics"]["val/psnr"]


def test_hopeless_trials_are_pruned_which_is_no_failure(tune, tmp_path):
    ended = tune(*SHORT, "search.trials=8", "search.space.optimizer.lr.low=1e-7", "search.experiment=null")
    assert ended.code == 0, ended.err
    folder = tmp_path / "outputs/searches/mine"
    rows = table(folder)
    pruned = [name for name, row in rows.items() if row["status"] == "pruned"]
    assert pruned
    assert [row["status"] for row in rows.values()].count("finished") == 8 - len(pruned)
    for name in pruned:
        run = Run(folder / name)
        assert run.state() == "pruned"
        assert rows[name]["epochs"] == "1"
        assert run.last.is_file()
        assert run.results()["metrics"]["val/psnr"] == float(rows[name]["val/psnr"])
    assert f"{pruned[0]} ({int(pruned[0][-1]) + 1} of 8)" in ended.err
    assert "pruned after 1 epochs at val/psnr" in ended.err
    assert "failed" not in ended.err


def test_a_trial_that_diverges_fails_alone_and_the_search_ends_well(tune, tmp_path, monkeypatch):
    original = RunCheckpoint.on_train_batch_end

    def diverge(self, trainer, module, *arguments):
        if "trial-0001" in str(self.folder):
            raise Diverged("the loss is no longer a number")
        return original(self, trainer, module, *arguments)

    monkeypatch.setattr(RunCheckpoint, "on_train_batch_end", diverge)
    ended = tune(*ONE_EPOCH, "search.trials=3", "search.experiment=null")
    assert ended.code == 0
    rows = table(tmp_path / "outputs/searches/mine")
    assert {name: row["status"] for name, row in rows.items()} == {
        "trial-0000": "finished",
        "trial-0001": "failed",
        "trial-0002": "finished",
    }
    assert rows["trial-0001"]["error"] == "the loss is no longer a number"
    assert ended.err.strip().splitlines()[-1] == "warning: trial-0001 failed: the loss is no longer a number"


def test_values_that_are_wrong_only_together_fail_their_trial(tune, tmp_path):
    # Length 14 fits the digits with registration centroid, not with start.
    choices = {"blur.length": "[5,14]", "blur.registration": "[start,centroid]"}
    entries = ",".join(f"{key}:{{type:categorical,choices:{values}}}" for key, values in choices.items())
    arguments = [a for a in ONE_EPOCH if not a.startswith("blur.length")]
    ended = tune(*arguments, "optimizer.lr=0.001", f"search.space={{{entries}}}", "search.trials=2", "seed=3")
    assert ended.code == 0, ended.err
    rows = table(tmp_path / "outputs/searches/mine")
    assert {row["status"] for row in rows.values()} == {"finished", "failed"}
    for row in rows.values():
        together = (row["blur.length"], row["blur.registration"]) == ("14", "start")
        assert (row["status"] == "failed") == together
        assert ("blur.length=14" in row["error"]) == together


def test_ctrl_c_stops_after_saving_and_the_same_command_continues(tune, tmp_path, monkeypatch):
    original = RunCheckpoint.on_train_batch_end

    def interrupt(self, trainer, module, *arguments):
        if "trial-0001" in str(self.folder) and trainer.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, trainer, module, *arguments)

    settings = [*SHORT, "search.trials=2", "search.experiment=null"]
    whole = tune(*settings, "output_root=whole")
    assert whole.code == 0, whole.err
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_batch_end", interrupt)
        ended = tune(*settings)
    assert ended.code == 143
    last = ended.err.strip().splitlines()[-1]
    assert "the same command continues it: python tune.py" in last
    assert "search.name=mine" in last
    folder = tmp_path / "outputs/searches/mine"
    assert {name: row["status"] for name, row in table(folder).items()} == {
        "trial-0000": "finished",
        "trial-0001": "interrupted",
    }
    ended = tune(*settings)
    assert ended.code == 0, ended.err
    assert "interrupted trials, to be continued: 1" in ended.err
    assert "trial-0001 was interrupted and goes on from its last checkpoint" in ended.err
    assert measured(folder) == measured(tmp_path / "whole/searches/mine")
    before = contents(folder / "trial-0001")
    ended = tune(*settings)  # nothing is left to do
    assert ended.code == 0
    assert "trials that have ended already: 2" in ended.err
    assert before == contents(folder / "trial-0001")


def measured(folder: Path) -> dict[str, list[str]]:
    keys = ("optimizer.lr", "status", "val/psnr", "epochs")
    return {name: [row[key] for key in keys] for name, row in table(folder).items()}


def start(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tune.py"), *arguments, "search.experiment=null"]
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_search_killed_in_a_trial_continues_to_the_results_of_an_uninterrupted_one(tune, tmp_path, shell_environment):
    settings = [*SHORT, "search.trials=2", "checkpoint.every_minutes=0", "trainer.max_epochs=3"]
    process = start(*settings, cwd=tmp_path, env=shell_environment)
    folder = tmp_path / "outputs/searches/mine"
    wait_for(folder / "trial-0001/checkpoints/last.ckpt", process)
    process.kill()
    process.wait()
    assert Run(folder / "trial-0001").state() == "interrupted"
    ended = tune(*settings, "search.experiment=null")
    assert ended.code == 0, ended.err
    assert "trials that have ended already: 1" in ended.err
    assert "trial-0001 was interrupted and goes on from its last checkpoint" in ended.err
    assert tune(*settings, "search.experiment=null", "output_root=whole").code == 0
    assert measured(folder) == measured(tmp_path / "whole/searches/mine")


@pytest.mark.slow
def test_two_processes_work_on_one_search_at_once(tune, tmp_path, shell_environment):
    settings = [*ONE_EPOCH, "search.trials=6"]
    process = start(*settings, cwd=tmp_path, env=shell_environment)
    folder = tmp_path / "outputs/searches/mine"
    wait_for(folder / "trial-0000/config.yaml", process)
    ended = tune(*settings, "search.experiment=null")
    output, _ = process.communicate(timeout=120)
    assert ended.code == process.returncode == 0, output
    rows = table(folder)
    assert sorted(rows) == [f"trial-{number:04d}" for number in range(6)]
    assert {row["status"] for row in rows.values()} == {"finished"}
    assert len({row["optimizer.lr"] for row in rows.values()}) == 6
    shares = [{line[:10] for line in text.splitlines() if " of 6)  " in line} for text in (ended.err, output)]
    assert all(shares)
    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == set(rows)


BEGUN = (*ONE_EPOCH, "search.trials=1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search.trials=0"], ["search.trials=0", ">= 1"]),
        (["search.metric=val/foo"], ["search.metric=val/foo", "val/psnr, val/ssim, val/mse"]),
        (["search.metric=test/psnr"], ["search.metric=test/psnr", "val/psnr, val/ssim"]),
        (["search.sampler=grid"], ["search.sampler=grid", "tpe, random"]),
        (["search.prune_after=0"], ["search.prune_after=0", ">= 1"]),
        (["search.name=a/b"], ["search.name=a/b"]),
        (["+search.foo=1"], ["search.foo", "prune_after"]),
        (["search=cn"], ["search=cn", "did you mean cnn"]),
        (["search.space.optimizer.lr.low=1"], ["search.space.optimizer.lr.low=1", "at most high", "0.05"]),
        (["search.space.optimizer.lr.low=0"], ["search.space.optimizer.lr.low=0", "greater than 0"]),
        (["search.space={loss:{choices:[]}}"], ["search.space.loss.choices=[]"]),
        (["search.space={optimizer.lrr:{type:float,low:0,high:1}}"], ["search.space.optimizer.lrr", "did you mean lr"]),
        (["search.space={model.shuffle:{type:int,low:0,high:1}}"], ["search.space.model.shuffle", "model.shuffle=0"]),
        (["search.space={optimizer:{type:categorical,choices:[adm]}}"], ["optimizer=adm", "did you mean adam"]),
        (["search.space={resume:{type:categorical,choices:[a]}}"], ["search.space.resume", "own"]),
        (["optimizer.lr=0.1"], ["search.space", "optimizer.lr", "nothing is left"]),
        (["optimizer.lrr=0.1"], ["optimizer.lrr=0.1", "did you mean lr"]),
        (["resume=x"], ["resume='x'", "own command"]),
        (["sweep.name=x"], ["sweep.name=x", "search.name"]),
        (["~trainer.log_every_n_steps"], ["~trainer.log_every_n_steps", "leave"]),
        (["trainer=ddp"], ["ddp", "search"]),
        (["trainer.limit_val_batches=0"], ["trainer.limit_val_batches=0", "validation"]),
        (["trainer.check_val_every_n_epoch=5"], ["trainer.check_val_every_n_epoch=5", "validation"]),
        (["search.experiment=quick"], ["search.experiment=quick", "quick.yaml", "not made by this search"]),
        (["-m"], ["-m"]),
        (["model.depth=3"], ["search.name=mine", "there: model.depth=2", "here: model.depth=3"]),
        (["seed=3"], ["there: seed=0", "here: seed=3"]),
        (["trainer.max_epochs=2"], ["there: trainer.max_epochs=1", "here: trainer.max_epochs=2"]),
        (["search.metric=val/ssim"], ["there: search.metric=val/psnr", "here: search.metric=val/ssim"]),
        (["search.space.optimizer.lr.high=0.5"], ["there: search.space.optimizer.lr=", "0.05", "0.5"]),
        (["search.name=foreign"], ["search.name=foreign", "is no search"]),
        (["search.name=damaged"], ["search.yaml", "is damaged"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and len(value[0]) < 40 else None,
)
def test_a_wrong_search_is_one_line_and_changes_nothing(tune, begun, arguments, said):
    before = contents(begun)
    ended = tune(*BEGUN, *arguments)
    assert ended.code == 2, ended.err
    assert len(ended.err.strip().splitlines()) == 1
    for words in ("error: ", *said):
        assert words in ended.err
    assert before == contents(begun)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory, tiny_root):
    """A folder of searches, with one begun by `BEGUN` and others that are none."""
    from deblur.search.plan import Search
    from deblur.search.study import Study

    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DEBLUR_DATA", str(tiny_root))
        settings, _ = settings_of("tune", BEGUN)
        Study(Search.of(settings, BEGUN))
    root = folder / "outputs/searches"
    for name, file in (("foreign", "notes.txt"), ("damaged", "search.yaml")):
        (root / name).mkdir()
        (root / name / file).write_text("metric: [")
    return folder


@pytest.fixture
def begun(tmp_path, made_once):
    """A copy of it in this test's own folder."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_damaged_journal_is_one_line_and_nothing_is_overwritten(tune, begun):
    journal = begun / "outputs/searches/mine/journal.log"
    journal.write_bytes(journal.read_bytes()[:-5])
    before = contents(begun)
    ended = tune(*BEGUN)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    for words in ("error: ", str(Path("outputs/searches/mine/journal.log")), "cut off", "search.name"):
        assert words in ended.err
    assert before == contents(begun)


def test_without_optuna_the_command_to_install_it_is_said(tune, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    ended = tune(*BEGUN)
    assert ended.code == 2
    assert 'pip install -e ".[search]"' in ended.err
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_of_its_own_is_written_anew_and_no_other(tune, configs):
    file = configs / "experiment/mine.yaml"
    assert tune(*BEGUN).code == 0
    first = file.read_text()
    assert tune(*ONE_EPOCH, "search.trials=2").code == 0
    assert yaml.safe_load(file.read_text())["model"] == yaml.safe_load(first)["model"]
    file.write_text("# @package _global_\nseed: 5\n")
    ended = tune(*ONE_EPOCH, "search.trials=3")
    assert ended.code == 2
    assert "search.experiment=mine" in ended.err
    assert file.read_text().endswith("seed: 5\n")


@pytest.mark.parametrize("name", ["cnn", "training", "unet"])
def test_every_space_in_configs_is_accepted(name, configs, monkeypatch, tiny_root):
    from deblur.search.plan import Search

    monkeypatch.setenv("DEBLUR_DATA", str(tiny_root))
    overrides = ["data.val_size=40", "trainer=cpu", *([f"model={name}"] if name != "training" else [])]
    settings, _ = settings_of("tune", [f"search={name}", *overrides])
    search = Search.of(settings, [f"search={name}", *overrides])
    search.check()
    assert search.name == search.experiment == name
    assert search.entries
