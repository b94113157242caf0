"""What is typed wrong for an evaluation is one line, exit code 2, and leaves nothing."""

from __future__ import annotations

import pytest
import torch

# (command line without the run, what the line must say); {runs} is the folder of runs
WRONG = [
    ([], ["run", "must be given"]),
    (["run="], ["run=", "folder"]),
    (["run=,"], ["run=,", "folder"]),
    (["run=nowhere"], ["run=nowhere", "no run"]),
    (["run={runs}"], ["no run", "config.yaml"]),
    (["run={runs}/mine,nowhere"], ["run=nowhere", "no run"]),
    (["run={runs}/untrained"], ["untrained/checkpoints/last.ckpt", "no such checkpoint"]),
    (["run={runs}/cut"], ["cut/checkpoints/best.ckpt", "damaged"]),
    (["run={runs}/misfit"], ["misfit/checkpoints/best.ckpt", "do not fit"]),
    (["run={runs}/bare"], ["config.yaml has no blur"]),
    (["run={runs}/dense", "data._target_=tests.evaluation.made_up.Large"], ["dense", "1x32x32", "1x28x28"]),
    (["run={runs}/mine", "data._target_=tests.evaluation.made_up.Photographs"], ["mine", "3x40x36"]),
    (["run={runs}/mine", "data._target_=tests.evaluation.made_up.Empty"], ["no test images"]),
    (["run={runs}/mine", "data._target_=tests.nowhere.Data"], ["data._target_=tests.nowhere.Data"]),
    (["run={runs}/mine", "protocol=lenghts"], ["protocol=lenghts", "did you mean lengths", "noise, test, tremor"]),
    (["run={runs}/mine", "protocol=lengths", "protocol.lengths=[3,40]"], ["length=40", "at most 26"]),
    (["run={runs}/mine", "protocol=lengths", "blur.length=9"], ["blur.length=9", "protocol=lengths", "decides"]),
    (["run={runs}/mine", "protocol=lengths", "blur=line"], ["blur=line", "protocol=lengths", "decides"]),
    (["run={runs}/mine", "protocol=noise", "blur=line", "blur.noise=0.1"], ["blur.noise=0.1", "decides"]),
    (["run={runs}/mine", "protocol=tremor", "blur.steps=3"], ["blur.steps=3", "protocol=tremor", "decides"]),
    (["run={runs}/mine", "protocol=tremor", "blur/camera=phone"], ["blur/camera=phone", "protocol=tremor", "decides"]),
    (["run={runs}/mine", "blur.camera.bits=4"], ["blur.camera=", "a Camera, as blur/camera=phone makes one"]),
    (["run={runs}/mine", "blur=shake3d", "baselines=wiener"], ["baselines=wiener", "Shake3D", "differently"]),
    (["run={runs}/mine", "metrics=[psnr,sim]"], ["metrics=sim", "did you mean ssim", "psnr_aligned", "legibility"]),
    (["run={runs}/mine", "metrics=psnr"], ["metrics=psnr", "a list"]),
    (["run={runs}/mine", "metrics=[lpips]"], ["metrics=lpips", "64x64"]),
    (["run={runs}/mine", "baselines=[weiner]"], ["baselines=weiner", "did you mean wiener", "total_variation"]),
    (["run={runs}/mine", "baselines=5"], ["baselines=5", "richardson_lucy"]),
    (["run={runs}/mine", "baseline_images=0"], ["baseline_images=0", ">= 1"]),
    (["run={runs}/mine", "blur.lenght=9"], ["blur.lenght=9", "did you mean length"]),
    (["run={runs}/mine", "blur.length=long"], ["blur.length=long", ">= 0"]),
    (["run={runs}/mine", "blur.length=40"], ["blur.length=40", "at most 26"]),
    (["run={runs}/mine", "blur=shaky"], ["blur=shaky", "shake"]),
    (["run={runs}/mine", "data=mnits"], ["data=mnits", "did you mean mnist"]),
    (["run={runs}/mine", "data.eval_sed=9"], ["data.eval_sed=9", "did you mean eval_seed"]),
    (["run={runs}/mine", "data.root=file"], ["data.root=file", "folder"]),
    (["run={runs}/mine", "metric=[psnr]"], ["metric=[psnr]", "did you mean metrics"]),
    (["run={runs}/mine", "+foo=1"], ["foo=1", "no such key", "baselines"]),
    (["run={runs}/mine", "images=0"], ["images=0", ">= 1"]),
    (["run={runs}/mine", "images=all"], ["images=all", "whole number"]),
    (["run={runs}/mine", "batch_size=0"], ["batch_size=0", ">= 1"]),
    (["run={runs}/mine", "accelerator=abacus"], ["accelerator=abacus", "cpu"]),
    (["run={runs}/mine", "allow=null"], ["allow=null", "a list"]),
    (["run={runs}/mine", "output=file"], ["output=file", "folder", "a file"]),
    (["run={runs}/mine", "output=file/below"], ["output=file/below", "folder", "a file"]),
    (["run={runs}/mine", "data=fashion_mnist", "data.val_size=40", "metrics=[legibility]"], ["legibility", "digits"]),
    (["run={runs}/mine", "-m"], ["-m", "one thing"]),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[" ".join(line).replace("{runs}/", "") for line, _ in WRONG])
def test_a_wrong_command_line_is_one_line_and_leaves_nothing(evaluate, runs, tmp_path, arguments, said):
    (tmp_path / "file").write_text("no folder")
    before = [sorted(folder.rglob("*")) for folder in (tmp_path, runs)]
    ended = evaluate(*(argument.format(runs=runs) for argument in arguments))
    assert ended.code == 2
    assert ended.out == ""
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: ")
    for words in said:
        assert words in line
    assert [sorted(folder.rglob("*")) for folder in (tmp_path, runs)] == before


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_too_little_memory_is_one_line_that_says_what_to_change(evaluate, runs, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("deblur.evaluation.measure.restore", fail)
    ended = evaluate(f"run={runs}/mine", "metrics=[psnr]", "batch_size=64", "output=found")
    assert ended.code == 2
    assert ended.err.strip() == f"error: batch_size=64: must be smaller: out of memory ({error})"
    assert not list(tmp_path.glob("found/*"))
