"""An evaluation from Python: what the command line finds, and the images behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import deblur
from deblur.data.pairs import join
from deblur.errors import UsageError
from deblur.evaluation.baselines import Wiener
from deblur.evaluation.evaluate import evaluate_runs
from deblur.evaluation.report import as_markdown

PLAIN = ("images=12", "metrics=[psnr,mse]")


def test_python_finds_what_the_command_line_writes(run: Path, door):
    settings = (*PLAIN, "blur.noise=0.02", "baselines=wiener", "baseline_images=8")
    ended = door(f"run={run}", *settings, config="evaluate", task="deblur.evaluation.evaluate:evaluate")
    assert ended.code == 0, ended.err
    (written,) = (run / "evaluation").glob("*.json")
    before = sorted(run.rglob("*"))
    assert evaluate_runs(run, *settings).results == json.loads(written.read_text())
    assert sorted(run.rglob("*")) == before


def test_restored_images_are_those_of_the_network_and_the_baselines(run: Path):
    evaluation = evaluate_runs(run, *PLAIN, "baselines=wiener", "baseline_images=8")
    pairs, restored = evaluation.restored([3, 1])
    network, wiener = restored.values()
    assert list(restored) == [evaluation.contenders[0].name, Wiener.name]
    assert torch.equal(pairs.sharp[1], evaluation.pairs[1:2].sharp[0])
    assert torch.equal(network, deblur.load(run)(pairs.blurred))
    assert wiener.shape == pairs.sharp.shape


def test_figures_are_those_of_the_kind_of_evaluation(run: Path):
    assert set(evaluate_runs(run, *PLAIN).figures()) == {"images", "spectra"}
    assert set(evaluate_runs(run, *PLAIN, "protocol=noise").figures()) == {"against", "images", "spectra"}
    assert set(evaluate_runs(run, "images=4", "metrics=[mse]").figures()) == set()


def test_the_benchmark_shows_images_of_its_first_round_and_names_none(run: Path):
    evaluation = evaluate_runs(run, "protocol=tremor", "protocol.rounds=2", "protocol.digits=1100")
    pairs, restored = evaluation.restored([1050, 3, 3])
    drawn = join([block for _, block in evaluation.pairs.blocks()])
    for side in ("sharp", "blurred"):
        assert torch.equal(getattr(pairs, side), getattr(drawn, side)[[1050, 3, 3]])
    assert torch.equal(pairs.motion.psf, drawn.motion.psf[[1050, 3, 3]])
    assert torch.equal(restored[evaluation.contenders[0].name], deblur.load(run)(pairs.blurred))
    assert set(evaluation.figures()) == {"images", "spectra"}
    assert "worst" not in json.dumps(evaluation.results)


def test_worst_images_are_those_of_the_condition_with_the_lowest_psnr(run: Path):
    results = evaluate_runs(run, *PLAIN, "protocol=noise", "protocol.levels=[0.0,0.3]").results
    (line,) = (line for line in as_markdown(results).splitlines() if line.startswith("worst"))
    (found,) = (method["worst"] for method in results["conditions"][1]["methods"].values() if "worst" in method)
    assert line.startswith("worst images of ")
    assert f"at noise 0.3: {found[0]['image']} ({found[0]['psnr']:.1f} dB)" in line


def test_a_parameter_at_an_end_of_its_grid_says_so(run: Path):
    results = evaluate_runs(run, *PLAIN, "baselines=wiener", "baseline_images=8").results
    (found,) = (method for method in results["conditions"][0]["methods"].values() if "parameter" in method)
    for end in (False, True):
        found["parameter_at_the_edge"] = end
        assert ("an end of its grid" in as_markdown(results)) == end


def test_wrong_settings_are_refused_by_name(run: Path):
    for setting in ("imags=3", "protocol=lengts", "images=0", "blur.lenth=3"):
        with pytest.raises(UsageError, match=setting.partition("=")[0]):
            evaluate_runs(run, setting)
