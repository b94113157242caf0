"""An evaluation from Python: what the command line finds, and the images behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import deblur
from deblur.errors import ArgumentError, UsageError
from deblur.evaluation.baselines import Wiener
from deblur.evaluation.evaluate import evaluate_runs

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


def test_what_is_drawn_anew_has_no_numbered_images(run: Path):
    evaluation = evaluate_runs(run, "protocol=tremor", "protocol.rounds=1", "protocol.digits=4")
    with pytest.raises(ArgumentError, match="fixed pairs"):
        evaluation.restored([0])


def test_wrong_settings_are_refused_by_name(run: Path):
    for setting in ("imags=3", "protocol=lengts", "images=0", "blur.lenth=3"):
        with pytest.raises(UsageError, match=setting.partition("=")[0]):
            evaluate_runs(run, setting)
