"""The table of a sweep, from made-up results of its runs: order, means over seeds, older runs, built anew."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from deblur.cli import compose
from deblur.summary import METRICS, Job, Sweep
from deblur.sweep import main
from deblur.training.run import Run
from tests.conftest import table


@pytest.fixture
def made_sweep(tmp_path):
    """A sweep folder with made-up results: `make(n)` gives one of n finished runs over two keys and seeds."""

    def make(jobs: int, swept: tuple[str, ...] = ("model", "seed")) -> Sweep:
        folder = tmp_path / "made"
        described = []
        for number in range(jobs):
            overrides = {key: str(number // (3 ** (len(swept) - 1 - i)) % 3) for i, key in enumerate(swept)}
            name = f"job{number}"
            (folder / name).mkdir(parents=True)
            metrics = dict.fromkeys(METRICS, 20.0 + number)
            Run(folder / name).write_results(
                status="finished", metrics=metrics, parameters=9, seconds=1.5, images_per_second=3.0, error=None
            )
            described.append(Job(name, overrides))
        sweep = Sweep(folder, ["model=0,1,2", "seed=0,1,2"], list(swept), "val/psnr", described)
        sweep.save()
        return sweep

    return make


def test_seeds_are_averaged_for_otherwise_equal_settings(made_sweep):
    sweep = made_sweep(9)
    lines = sweep.over_seeds(sweep.rows())
    assert {line["model"]: line["test/psnr"] for line in lines} == {"0": 21.0, "1": 24.0, "2": 27.0}
    assert all(line["seeds"] == 3 and line["test/psnr std"] == 1.0 for line in lines)
    sweep.write()
    assert "27.00 ± 1.00" in (sweep.folder / "summary.md").read_text()


def test_settings_are_chosen_on_validation_images_unless_asked_otherwise(made_sweep):
    assert compose("train", ["checkpoint.monitor=val/ssim"]).sweep.metric == "val/ssim"
    sweep = made_sweep(3, ("model",))
    for number, (val, test) in enumerate([(20.0, 30.0), (22.0, 28.0), (21.0, 29.0)]):
        metrics = {"val/psnr": val, "val/mse": 1 / val, "test/psnr": test, "val/psf_correlation": val / 100}
        Run(sweep.folder / f"job{number}").write_results(metrics=metrics)

    def order(metric: str) -> str:
        return "".join(row["run"][-1] for row in replace(sweep, metric=metric).rows())

    assert order("val/psnr") == order("val/mse") == order("val/psf_correlation") == "120"
    assert order("test/psnr") == "021"
    other = replace(sweep, metric="val/psf_correlation")
    other.write()
    assert [row["val/psf_correlation"] for row in table(sweep.folder)] == ["0.22", "0.21", "0.2"]
    assert "| model | val/psf_correlation | val PSNR, dB | test PSNR, dB |" in (sweep.folder / "summary.md").read_text()


def test_runs_from_before_validation_was_written_down_stand_in_the_table(made_sweep):
    sweep = made_sweep(9)
    for number in range(4):
        Run(sweep.folder / f"job{number}").write_results(metrics={"test/psnr": 40.0})
    assert [row["run"] for row in sweep.rows()][:5] == [f"job{number}" for number in (8, 7, 6, 5, 4)]
    assert {line["model"]: line["seeds"] for line in sweep.over_seeds(sweep.rows())} == {"2": 3, "1": 2}
    old = replace(sweep, metric="test/psnr")
    lines = old.over_seeds(old.rows())
    assert [line["model"] for line in lines] == ["0", "1", "2"]
    assert lines[0]["val/psnr"] is None
    old.write()
    assert "40.00 ± 0.00" in (sweep.folder / "summary.md").read_text()


def test_the_summary_is_rebuilt_from_the_runs(made_sweep, capsys):
    sweep = made_sweep(9, ("model", "blur.length"))
    shutil.rmtree(sweep.folder / "job4")
    assert main([str(sweep.folder)]) == 0
    assert len(table(sweep.folder)) == 9
    assert table(sweep.folder)[-1]["status"] == "new"
    assert "finished" in capsys.readouterr().out
    assert main([str(sweep.folder / "job1")]) == 2
    assert main([]) == 2
    (sweep.folder / "sweep.yaml").write_text("jobs: 3")
    assert main([str(sweep.folder)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_the_picture_shows_the_best_of_many_runs(made_sweep, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: drawn.append(figure) or Path(file).touch())
    made_sweep(45, ("model",)).write()
    (axis,) = drawn[0].axes
    assert len(axis.patches) == 40
    assert max(bar.get_width() for bar in axis.patches) == 64.0  # of the best of 45, from 20 on
    assert min(bar.get_width() for bar in axis.patches) == 25.0
    assert "the best 40 of 45" in drawn[0].get_suptitle()
