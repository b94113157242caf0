"""Real pairs from the command line to a run, its evaluation and restored pictures; nothing asks for their PSF."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import ROOT, only_run, results
from tests.data.test_real_pairs import gopro, parallel

SMALL = ["data=pairs", "data.root=pairs", "data.size=16", "data.crops=1", "data.eval_crops=1", "model=cnn"]
SMALL += ["model.width=8", "model.depth=2", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.devices=1"]
EVALUATE = {"config": "evaluate", "task": "deblur.evaluation.evaluate:evaluate"}


def test_a_network_that_learned_from_another_blur_is_evaluated_on_real_pairs(door, tmp_path):
    parallel(tmp_path / "pairs")
    pairs = ["data=pairs", "data.root=pairs", "data.size=16", "data.channels=1", "metrics=[psnr]", "output=found"]
    ended = door(f"run={ROOT}/outputs/pretrained/shake", *pairs, **EVALUATE)
    assert ended.code == 0, ended.err
    assert "crops of the pairs in pairs" in ended.out
    assert list((tmp_path / "found").glob("*_images.png"))


@pytest.fixture
def run(door, tmp_path):
    gopro(tmp_path / "pairs")
    ended = door(*SMALL, "data.batch_size=2")
    assert ended.code == 0, ended.err
    assert "crops of the pairs in pairs" in ended.out
    return only_run(tmp_path / "outputs")


def test_a_run_on_real_pairs_is_evaluated_shown_and_used(door, figures, run, tmp_path):
    psnr = results(run)["metrics"]["test/psnr"]
    assert yaml.safe_load((run / "config.yaml").read_text())["blur"]["_target_"] == "deblur.blur.NoBlur"
    for name in ("restorations", "psf"):
        with Image.open(run / f"figures/{name}.png") as figure:
            assert figure.size[0] > 100
    ended = door(f"run={run}", "metrics=[psnr,mse]", "output=found", **EVALUATE)
    assert ended.code == 0, ended.err
    assert f"{psnr:.2f}" in ended.out
    assert (tmp_path / "found/test_images.png").is_file()
    ended = door(
        f"run={run}", "input=pairs/test", "output=made", config="restore", task="deblur.restoration.restore:restore"
    )
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "made").rglob("*.png"))) == 6


NEEDS_A_BLUR = [
    (["baselines=[wiener]"], ["baselines=[wiener]", "nobody knows that of real pairs"]),
    (["blur=shake"], ["blur: real pairs are blurred already"]),
    (["blur.length=9"], ["blur.length=9", "no such key"]),
    (["protocol=lengths"], ["blur: real pairs are blurred already"]),
    (["protocol=noise"], ["blur: real pairs are blurred already"]),
    (["data.root=nowhere"], ["data.root=nowhere", "a folder with pairs"]),
]


def test_an_evaluation_that_needs_their_blur_is_refused_in_one_line(door, run, tmp_path):
    for arguments, said in NEEDS_A_BLUR:
        ended = door(f"run={run}", "output=found", *arguments, **EVALUATE)
        assert ended.code == 2, arguments
        (line,) = ended.err.strip().splitlines()
        for words in said:
            assert words in line
        assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["blur=shake"], ["blur: real pairs are blurred already"]),
        (["blur/camera=phone"], ["blur.camera: a camera has taken real pairs already", "blur/camera=off"]),
        (["data.root=nowhere"], ["data.root=nowhere", "a folder with pairs"]),
        (["data.variant=blur_sharp"], ["data.root=pairs", "has no pairs", "blur_sharp beside"]),
        (["model=deconvolver", "module.psf_weight=0.1"], ["module.psf_weight", "nobody knows those of real pairs"]),
    ],
)
def test_what_is_wrong_is_one_line(door, tmp_path, arguments, said):
    parallel(tmp_path / "pairs")
    settings = [line for line in SMALL if not (arguments[0].startswith("model") and line.startswith("model"))]
    ended = door(*settings, *arguments)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert not (tmp_path / "outputs").exists()


def test_a_folder_is_asked_for(door):
    ended = door("data=pairs")
    assert ended.code == 2
    assert "data.root: must be given" in ended.err


def test_the_preview_shows_pairs_without_a_psf_and_writes_them(door, tmp_path):
    parallel(tmp_path / "pairs")
    ended = door(
        "data=pairs", "data.root=pairs", "data.size=16", "pairs=it.npz", config="preview", task="deblur.preview:preview"
    )
    assert ended.code == 0, ended.err
    with np.load(tmp_path / "it.npz") as content:
        assert set(content) == {"sharp", "blurred"}
        np.testing.assert_allclose(content["blurred"], 1 - content["sharp"], atol=1e-6)
