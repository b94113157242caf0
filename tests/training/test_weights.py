"""Weights of a run: from its checkpoint, or from the small file of a published run; both open without running code."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

import deblur
from deblur.build import EVERYTHING, trusting
from deblur.cli import settings_of
from deblur.errors import UsageError
from deblur.training.report import versions
from deblur.training.train import make_plan
from deblur.training.weights import read_weights
from tests.conftest import TINY, assert_equal_weights, only_run, weights


def made_run(path: Path, root: Path, *overrides: str) -> Path:
    """A run as a training leaves it, but that its network never trained: made in no time.

    Args:
        path: of its folder.
        root: of the data.
        *overrides: of its settings, beside those of tiny runs; another option replaces all of its part.
    """
    parts = {override.partition("=")[0] for override in overrides}
    tiny = [override for override in TINY if override.partition("=")[0].partition(".")[0] not in parts]
    settings, _ = settings_of("train", [*tiny, f"data.root={root}", *overrides])
    with trusting(EVERYTHING):
        plan = make_plan(settings)
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(plan.settings, sort_keys=False))
    (path / "results.json").write_text(json.dumps({"status": "finished", "metrics": {}}))
    save(path, plan.module.state_dict(), dict(plan.module.hparams))
    return path


def save(run: Path, state: dict[str, Tensor], settings: dict) -> None:
    torch.save({"state_dict": state, "hyper_parameters": settings}, run / "checkpoints/best.ckpt")


def publish(run: Path, path: Path) -> Path:
    """The run as it is published: config, results, and weights in half precision."""
    path.mkdir()
    for name in ("config.yaml", "results.json"):
        shutil.copy(run / name, path)
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    save_file({name: weight.half().contiguous() for name, weight in state.items()}, path / "weights.safetensors")
    return path


@pytest.fixture
def made(tmp_path: Path, tiny_root: Path) -> Path:
    return made_run(tmp_path / "made", tiny_root)


@pytest.fixture
def published(made: Path, tmp_path: Path) -> Path:
    return publish(made, tmp_path / "published")


@pytest.mark.parametrize("model", [[], ["model=unet", "model.widths=[4,8]", "model.blocks=[1,1]"], ["model=mlp"]])
def test_a_published_run_restores_like_its_checkpoint(tmp_path, tiny_root, model):
    made = made_run(tmp_path / "made", tiny_root, *model)
    network, small = deblur.load(made), deblur.load(publish(made, tmp_path / "published"))
    blurred = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    restored = small(blurred)
    assert restored.dtype == torch.float32
    assert not small.training
    torch.testing.assert_close(restored, network(blurred), atol=1e-2, rtol=0)
    assert not torch.equal(restored, blurred.clamp(0, 1))


def test_a_published_run_is_found_by_its_folder_and_by_its_file(published):
    assert_equal_weights(
        deblur.load(published).state_dict(), deblur.load(str(published / "weights.safetensors")).state_dict()
    )


def test_a_checkpoint_comes_before_what_was_published(made, published):
    shutil.copytree(made / "checkpoints", published / "checkpoints")
    assert_equal_weights(deblur.load(published).state_dict(), deblur.load(made).state_dict())


def test_weights_are_read_with_the_settings_that_they_need(made, published):
    for file in (made / "checkpoints/best.ckpt", published / "weights.safetensors"):
        settings, state = read_weights(file)
        assert settings["model"] == {"_target_": "deblur.models.CNN", "channels": 1, "width": 8, "depth": 2} | {
            key: value for key, value in settings["model"].items() if key == "shuffle"
        }
        assert set(settings) >= {"model", "loss", "optimizer", "scheduler", "seed", "channels_last"}
        assert all(weight.dtype == torch.float32 for weight in state.values())


def test_a_published_run_starts_another_training(door, published, tmp_path):
    ended = door(*TINY, "seed=1", "init=published", "output_root=next", "optimizer.lr=0", "trainer.max_epochs=1")
    assert ended.code == 0, ended.err
    assert_equal_weights(weights(only_run(tmp_path / "next")), read_weights(published / "weights.safetensors").state)


def damage_file(run: Path) -> None:
    file = run / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def damage_header(run: Path) -> None:
    (run / "weights.safetensors").write_bytes(b"<html>not found</html>")


def lose_weights(run: Path) -> None:
    (run / "weights.safetensors").unlink()


def change(run: Path, **changes) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | changes))


def lose_settings(run: Path) -> None:
    (run / "config.yaml").write_text("seed: 0\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage_file, "is damaged"),
        (damage_header, "is damaged"),
        (lose_weights, "there is no such"),
        (lose_settings, "config.yaml: must hold the settings of a run"),
        (lambda run: change(run, model=None), "config.yaml: must hold the settings of a run"),
        (lambda run: change(run, module={"channels_last": 3}), "channels_last=3"),
        (lambda run: change(run, model={"_target_": "deblur.models.CNN", "width": 9, "depth": 2}), "do not fit"),
        (lambda run: change(run, model={"_target_": "os.system"}), "model._target_=os.system"),
        (lambda run: (run / "config.yaml").write_text("{"), "config.yaml: cannot be read"),
    ],
    ids=["cut", "no safetensors", "missing", "no settings", "no model", "value", "other width", "code", "no yaml"],
)
def test_a_published_run_that_is_damaged_is_one_line(published, spoil, said):
    spoil(published)
    with pytest.raises(UsageError, match=said) as refused:
        deblur.load(published)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_without_settings_is_one_line(made):
    torch.save({"state_dict": {}}, made / "checkpoints/best.ckpt")
    with pytest.raises(UsageError, match="is no checkpoint of a run"):
        deblur.load(made)


def test_settings_that_do_not_fit_are_refused_with_the_version_that_made_them(published):
    change(published, model={"_target_": "deblur.models.CNN", "flux": 3})
    (published / "results.json").write_text(json.dumps({"status": "finished", "versions": {"deblur": "9.9"}}))
    with pytest.raises(UsageError, match=r"model.flux=3: no such key.*; the run was made with deblur 9\.9, this is"):
        deblur.load(published)


def test_settings_that_do_not_fit_are_refused_where_this_package_is_not_installed_too(published, monkeypatch):
    def not_there(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", not_there)  # as from a clone
    change(published, model={"_target_": "deblur.models.CNN", "flux": 3})
    (published / "results.json").write_text(json.dumps({"status": "finished", "versions": {"deblur": "9.9"}}))
    with pytest.raises(UsageError, match=r"was made with deblur 9\.9, this is an unknown version$"):
        deblur.load(published)
    assert set(versions()) == {"python"}


def test_a_run_made_before_there_was_a_setting_opens(published):
    config = yaml.safe_load((published / "config.yaml").read_text())
    del config["module"]["nan_patience"]
    (published / "config.yaml").write_text(yaml.safe_dump(config))
    assert deblur.load(published).network is not None
