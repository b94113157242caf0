"""Every option in configs/ composes, and builds a training that could start."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from deblur.build import EVERYTHING, build, constructor_parameters, find_class, trusting
from deblur.cli import CONFIGS, compose, plain
from deblur.errors import UsageError
from deblur.training.train import Plan, check_job, make_plan
from tests.conftest import TINY
from tests.data.test_real_pairs import parallel

GROUPS = ("blur", "blur/camera", "data", "model", "task", "module", "loss", "optimizer", "scheduler", "experiment")
NEEDS = {"deepinv_unet": "deepinv"}  # the package of another library's network
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((CONFIGS / group).glob("*.yaml"))]


def composed(*overrides: str) -> dict:
    config = compose("train", list(overrides), with_hydra=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return plain(config)


def skip_without_its_package(option: str) -> None:
    if option in NEEDS and importlib.util.find_spec(NEEDS[option]) is None:
        pytest.skip(f"{NEEDS[option]} is not installed")


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch, tiny_root: Path) -> None:
    monkeypatch.setenv("DEBLUR_DATA", str(tiny_root))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_builds_a_training(tmp_path, group, option):
    skip_without_its_package(option)
    overrides = [f"{group}={option}", "trainer=cpu"]
    if option == "pairs":
        overrides += ["data.size=16", f"data.root={parallel(tmp_path)}"]
    if option == "kernels":
        np.save(tmp_path / "psfs.npy", np.ones((2, 3, 3)))
        overrides.append(f"blur.path={tmp_path}/psfs.npy")
    settings = composed(*overrides)
    if "val_size" in settings["data"]:
        settings["data"]["val_size"] = 40
    with trusting(EVERYTHING):
        assert isinstance(make_plan(settings), Plan)


@pytest.mark.parametrize(("group", "option"), [pair for pair in OPTIONS if pair[0] != "experiment"], ids=str)
def test_an_options_file_names_only_arguments_of_its_class(group, option):
    skip_without_its_package(option)
    paths = {"kernels": ["blur.path=x"], "pairs": ["data.root=x"]}
    settings = composed(f"{group}={option}", *paths.get(option, []))
    for key in group.split("/"):
        settings = settings[key]
    if settings is None:  # blur/camera=off
        return
    with trusting(EVERYTHING):
        known = constructor_parameters(find_class(settings, group))
    assert set(settings) - {"_target_"} <= set(known)


@pytest.mark.parametrize("option", [file.stem for file in sorted((CONFIGS / "trainer").glob("*.yaml"))])
def test_every_trainer_is_built_or_says_that_its_device_is_not_there(option):
    extra = ["trainer.accelerator=cpu"] if option == "ddp" else []
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(option, True)
    refused = contextlib.nullcontext() if there else pytest.raises(UsageError, match=f"trainer.accelerator={option}")
    with trusting(EVERYTHING), refused:
        make_plan(composed(f"trainer={option}", "data.val_size=40", *extra))


@pytest.mark.parametrize("option", [file.stem for file in sorted((CONFIGS / "blur").glob("*.yaml"))])
def test_every_blur_takes_a_camera(tmp_path, option):
    np.save(tmp_path / "psfs.npy", np.ones((2, 3, 3)))
    path = [f"blur.path={tmp_path}/psfs.npy"] if option == "kernels" else []
    settings = composed(f"blur={option}", "blur/camera=phone", "blur.camera.full_well=300", *path)
    blur = build(settings["blur"], "blur")
    assert blur.camera.full_well == (300, 300)
    source = torch.Generator().manual_seed(0)
    motion = blur.draw(2, (28, 28), source)
    assert set(motion.camera[:, 1].tolist()) == {300.0}
    assert blur.apply(torch.rand(2, 3, 28, 28, generator=source), motion, source).min() >= 0


def test_the_settings_that_users_see_stay_as_they_are():
    settings = composed()
    public = {
        "blur": {"length", "noise", "registration", "padding"},
        "data": {"root", "batch_size", "val_size", "eval_seed"},
        "optimizer": {"lr"},
        "trainer": {"max_epochs", "accelerator", "devices", "precision"},
        "checkpoint": {"monitor"},
        "sweep": {"name"},
    }
    for section, keys in public.items():
        assert keys <= set(settings[section])
    assert {"seed", "resume", "init", "loss", "scheduler", "model"} <= set(settings)
    assert settings["checkpoint"]["monitor"] == "val/psnr"
    assert settings["data"]["eval_seed"] == 0


def test_tremor_is_the_benchmark_as_it_is_defined():
    settings = composed("experiment=tremor")
    assert settings["blur"]["_target_"] == "deblur.blur.RandomWalk"
    assert settings["blur"]["steps"] == 10
    assert settings["blur"]["step"] == pytest.approx(0.07 * 28)
    assert settings["blur"]["registration"] == "start"
    assert settings["loss"]["_target_"] == "torch.nn.MSELoss"


def test_the_models_train_at_their_sizes():
    sizes = {}
    for model in ("mlp", "cnn", "unet"):
        with trusting(EVERYTHING):
            network = make_plan(composed(*TINY[3:], f"model={model}")).module.network
        sizes[model] = sum(parameter.numel() for parameter in network.parameters())
    assert 1e6 < sizes["mlp"] < 3e6
    assert 1e5 < sizes["cnn"] < 5e5
    assert 1e5 < sizes["unet"] < 5e5


def test_a_sweep_knows_which_of_its_jobs_is_more_work():
    small, large, given = (
        check_job(composed("data.val_size=40", "trainer=cpu", *changes))
        for changes in (["model.widths=[4,4,4]"], [], ["model.widths=[4,4,4]", "task=nonblind"])
    )
    assert 0 < small < large
    assert small < given  # the blurred image and those of the filters
