"""The camera and a blur that turns, from the command line to a run, its evaluation, its resuming and a sweep."""

from __future__ import annotations

from functools import partial

import pytest
import yaml

from tests.conftest import TINY, only_run, results

SHORT = (*TINY, "trainer.max_epochs=1")


def config_of(run) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


def test_a_run_with_both_finishes_and_evaluates_to_what_its_training_reported(door, tmp_path):
    ended = door(*SHORT, "blur=shake3d", "blur.rotation=[0,10]", "blur/camera=phone", "blur.camera.exposure=[0.5,1]")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    assert config_of(run)["blur"]["camera"]["exposure"] == [0.5, 1]
    evaluate = partial(door, config="evaluate", task="deblur.evaluation.evaluate:evaluate")
    ended = evaluate(f"run={run}", "metrics=[mse]")
    assert ended.code == 0, ended.err
    lines = (run / "evaluation/test.csv").read_text().splitlines()
    mse = next(line.split(",") for line in lines if line.startswith("blurred") and ",mse," in line)
    assert float(mse[3]) == pytest.approx(results(run)["metrics"]["test/mse_blurred"], rel=1e-4)


def test_a_run_is_resumed_only_with_its_own_camera(door, tmp_path):
    assert door(*SHORT, "blur/camera=phone").code == 0
    run = only_run(tmp_path / "outputs")
    config = config_of(run)
    without = {key: value for key, value in config["blur"].items() if key != "camera"}  # of a run from before cameras
    cases = [(config["blur"], "phone", "off"), (without | {"camera": None}, "off", "phone"), (without, "off", "phone")]
    for blur, same, other in cases:
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"blur": blur}))
        assert door(f"resume={run}", f"blur/camera={same}").code == 0
        ended = door(f"resume={run}", f"blur/camera={other}")
        assert ended.code == 2
        assert f"blur/camera={other}: a resumed run keeps its settings" in ended.err


def test_a_sweep_over_cameras_has_a_run_for_each(door, tmp_path):
    ended = door("-m", *SHORT, "blur/camera=off,phone", "sweep.name=cameras")
    assert ended.code == 0, ended.err
    folder = tmp_path / "outputs/sweeps/cameras"
    cameras = {run.name: config_of(run)["blur"]["camera"] for run in folder.iterdir() if run.is_dir()}
    assert cameras["blur-camera=off"] is None
    assert cameras["blur-camera=phone"]["bits"] == 8


@pytest.mark.parametrize("blur", ["shake3d", "random_walk"])
def test_a_blur_is_previewed_with_a_camera(door, tmp_path, blur):
    ended = door(
        *("data.val_size=40", f"blur={blur}", "blur/camera=phone", "blur.camera.full_well=500", "output=blur.png"),
        config="preview",
        task="deblur.preview:preview",
    )
    assert ended.code == 0, ended.err
    assert (tmp_path / "blur.png").read_bytes().startswith(b"\x89PNG")
