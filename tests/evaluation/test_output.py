"""Where an evaluation writes to: tried before anything is computed, and what the system refuses is one line."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from deblur.evaluation import evaluate as door_of_evaluation
from deblur.evaluation import report

MSE = "metrics=[mse]"


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A run that the test may change."""
    return shutil.copytree(runs / "mine", tmp_path / "copy")


@pytest.fixture
def uncomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_of_evaluation, "measure_methods", lambda *_, **__: pytest.fail("computed"))


def refused(ended, *said: str) -> None:
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: output=")
    for words in said:
        assert words in line


@pytest.mark.usefixtures("uncomputed")
def test_a_file_in_the_place_of_a_runs_own_folder_is_refused_at_once(evaluate, run, tmp_path):
    (run / "evaluation").write_text("no folder")
    before = sorted(tmp_path.rglob("*"))
    refused(evaluate(f"run={run}", MSE), f"output={run}/evaluation", "must be a folder", "this is a file")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("uncomputed")
def test_a_folder_that_no_system_makes_is_refused_at_once(evaluate, run):
    refused(evaluate(f"run={run}", MSE, "output=/proc/deblur/found"), "output=/proc/deblur/found: cannot be written")


@pytest.mark.usefixtures("uncomputed")
@pytest.mark.parametrize("output", [[], ["output=found"], ["output=new/found"], ["output=copy"]])
def test_a_folder_that_cannot_be_written_is_refused_at_once_and_leaves_nothing(
    evaluate, run, tmp_path, monkeypatch, output
):
    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    before = sorted(tmp_path.rglob("*"))
    refused(evaluate(f"run={run}", MSE, *output), "cannot be written", "Read-only file system")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_setting_that_is_refused_later_leaves_no_folder(evaluate, run, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    ended = evaluate(f"run={run}", "metrics=[lpips]", "output=new/found")
    assert ended.code == 2
    assert "metrics=lpips" in ended.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("owner", "name"), [(report, "write_atomically"), (Figure, "savefig")])
def test_a_disk_that_is_full_is_one_line_and_what_was_found_is_on_the_screen(evaluate, run, monkeypatch, owner, name):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(owner, name, full)
    ended = evaluate(f"run={run}", "metrics=[psnr]", "images=20")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line == f"error: output={run}/evaluation: cannot be written (No space left on device)"
    assert "blurred" in ended.out
    assert "results:" not in ended.out


def test_every_images_own_values_have_the_means_of_the_table(evaluate, runs, tmp_path):
    command = [
        f"run={runs}/mine,{runs}/other",
        "protocol=lengths",
        "protocol.lengths=[3,5]",
        "images=7",
        "metrics=[psnr,mse]",
    ]
    ended = evaluate(*command, "baselines=wiener", "output=found", "per_image=true")
    assert ended.code == 0, ended.err
    (file,) = (tmp_path / "found").glob("*_values.csv")
    assert file.name in ended.out
    results = json.loads(file.with_name(file.name.replace("_values.csv", ".json")).read_text())
    assert "per_image" not in results["command"]
    rows = list(csv.DictReader(file.open()))
    assert set(rows[0]) == {*results["labels"], "method", "image", "psnr", "mse"}
    for condition in results["conditions"]:
        labels = {key: str(value) for key, value in condition["labels"].items()}
        for method, found in condition["methods"].items():
            mine = [row for row in rows if row["method"] == method and labels.items() <= row.items()]
            assert [row["image"] for row in mine] == [str(number) for number in range(7)]
            for metric, summary in found["metrics"].items():
                assert sum(float(row[metric]) for row in mine) / 7 == pytest.approx(summary["mean"], rel=1e-5)
    assert len(rows) == 7 * sum(len(condition["methods"]) for condition in results["conditions"])
