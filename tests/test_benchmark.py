"""The benchmark's own arithmetic: sides in turn, ratios, exponents, peers that are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deblur.benchmark import memory, settings
from deblur.benchmark.bench import Bench, Row, Side
from deblur.benchmark.blur import check_blurred
from deblur.benchmark.fit import shares_of_fit
from deblur.benchmark.report import environment, page, rows_table
from deblur.benchmark.scaling import Growth
from deblur.blur import Shake

CPU = torch.device("cpu")


def test_ratio_is_of_speeds_and_for_times_the_other_way_round():
    speed = Row("blur", "theirs", [100.0, 300.0, 200.0], [25.0, 50.0, 50.0], target=3.5).as_dict()
    assert (speed["ours"], speed["theirs"], speed["ratio"]) == (200.0, 50.0, 4.0)
    assert speed["middle_half"] == [4.0, 5.0]
    time = Row("start", "theirs", [2.0, 2.0], [6.0, 6.0], unit="s").as_dict()
    assert time["ratio"] == 3.0
    one = Row("training", "theirs", [4.0], [2.0], target=1.0, unit="s").as_dict()
    assert (one["ratio"], one["middle_half"]) == (0.5, [0.5, 0.5])
    cells = rows_table([speed, time, one])
    assert [line[-1] for line in cells] == ["target", "3.5, met", "", "1, missed"]


def test_the_shares_of_a_fit_are_those_of_its_whole_time():
    step = {"blur": 0.2, "forward": 0.3, "backward": 0.4, "optimiser": 0.1}
    found = shares_of_fit(step, ratio=0.64)  # of a step of 1, the bare loop takes 0.8, and fit 1.25
    assert found == pytest.approx({name: share / 1.25 for name, share in step.items()} | {"logging and all else": 0.2})
    assert shares_of_fit(step, ratio=1.0) == pytest.approx(step | {"logging and all else": 0.0})


def test_exponent_is_that_of_the_power_law():
    assert Growth("cost", "side", [1.0, 2.0, 4.0], [3.0, 24.0, 192.0]).exponent == pytest.approx(3.0)
    assert Growth("cost", "side", [1.0, 10.0], [5.0, 5.0]).exponent == pytest.approx(0.0)


def test_sides_take_turns_and_are_called_by_their_multiples():
    calls: list[str] = []
    sides = [Side(name, lambda name=name: calls.append(name), 8, multiple) for name, multiple in (("a", 2), ("b", 3))]
    rates = Bench(CPU, seconds=0.0, rounds=4).measure("what", sides)
    assert calls == ["a"] * 2 + ["b"] * 3 + (["a"] * 2 + ["b"] * 3) * 4
    assert all(len(found) == 4 and min(found) > 0 for found in rates.values())


def test_a_peer_that_is_not_installed_is_named_once():
    bench = Bench(CPU, seconds=0.0)
    for _ in range(2):
        with bench.peer("no_such_package"):
            import no_such_package  # noqa: F401
    assert bench.left_out == ["no_such_package, not installed"]


def test_bfloat16_is_left_out_where_it_would_not_end(monkeypatch):
    trained = []

    def train(bench, values):
        trained.append(values.get("trainer.precision"))
        return SimpleNamespace(rates=[1.0], psnr=0.0, first=1.0)

    monkeypatch.setattr(settings, "_trained", train)
    for slowdown, count in ((0.5, 1), (settings.MOST_SLOWDOWN + 1, 0)):
        monkeypatch.setattr(settings, "bfloat16_slowdown", lambda _, slowdown=slowdown: slowdown)
        bench = Bench(CPU, seconds=0.0)
        rows = list(settings.run(bench))
        assert sum("bf16" in row.what for row in rows) == trained.count("bf16-mixed") == count
        assert len(bench.left_out) == 1 - count
        trained.clear()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_blurring_large_images_takes_at_most_four_times_their_memory():
    assert 1 < memory.of_the_blur() / memory.IMAGES < 4


def test_images_that_are_not_blurred_by_their_psfs_are_not_timed():
    source = torch.Generator().manual_seed(0)
    sharp, blur = torch.rand(4, 1, 28, 28, generator=source), Shake(length=9)
    motion = blur.draw(4, (28, 28), source)
    blurred = blur.apply(sharp, motion)
    check_blurred("ours", sharp, motion.psf, blurred)
    for psf, images in ((motion.psf.flip(-1), blurred), (motion.psf[:1].expand(4, -1, -1, -1), blurred)):
        with pytest.raises(AssertionError, match="not blurred each with its own PSF"):
            check_blurred("ours", sharp, psf, images)


def test_the_page_holds_all_tables_and_what_was_left_out():
    row = Row("blur", "theirs", [2.0], [1.0]).as_dict()
    growth = Growth("blur", "side", [1.0, 2.0], [1.0, 4.0]).as_dict()
    results = environment(CPU) | {"seconds": 0.1, "rows": [row], "growth": [growth]}
    text = page(results | {"left_out": ["kornia, not installed"]})
    for words in (
        "| blur | theirs | 2 | 1 | images/s | 2.00 | 2.00 to 2.00 | 1 |",
        "| 2.00 |\n",
        "Left out: kornia, not installed.",
        "torch ",
    ):
        assert words in text


@pytest.mark.slow
def test_a_section_runs_from_the_command_line_and_writes_its_files(tmp_path):
    script = Path(__file__).parent.parent / "scripts/benchmark.py"
    command = [sys.executable, str(script), "scaling", "--seconds", "0.01", "--output", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "summary of a sweep" in ended.stdout
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".md"]
    wrong = subprocess.run([*command[:2], "blurr"], capture_output=True, text=True)
    assert wrong.returncode == 2
