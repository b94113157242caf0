"""The tasks from the command line: trained, tested, published, evaluated side by side, and refused in one line."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import deblur
from deblur.blur import Shake
from deblur.data.digits import MNIST
from deblur.errors import ArgumentError
from deblur.metrics import NAMES, psf_correlation
from deblur.training.settings import differences
from deblur.training.train import make_plan
from tests.conftest import TINY, assert_equal_weights, only_run, results, weights
from tests.test_configs import composed
from tests.training.test_weights import made_run, publish

HEAD = ("task.width=4", "task.filters=2")
KERNEL = ("task=kernel", *HEAD)
EVALUATE = {"config": "evaluate", "task": "deblur.evaluation.evaluate:evaluate"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """Untrained runs of every task on the same pairs."""
    folder = tmp_path_factory.mktemp("tasks")
    made_run(folder / "blind", tiny_root)
    made_run(folder / "kernel", tiny_root, *KERNEL, "task.psf_size=null")
    made_run(folder / "known", tiny_root, "task=nonblind")
    estimated = ("task=nonblind", "task.psf=estimated", f"task.estimator={folder / 'kernel'}")
    made_run(folder / "estimated", tiny_root, *estimated)
    small = ["model.widths=[4,8]", "model.first_widths=[4,8]", "model.psf_size=8", "model.stages=0"]
    made_run(folder / "stageless", tiny_root, "model=deconvolver", *small, "module.psf_weight=0")
    return folder


def pairs(root: Path):
    return MNIST(Shake(length=5), root=str(root), val_size=40).evaluation_pairs("test")[:]


def test_a_run_of_task_kernel_shows_how_well_it_finds_the_psf(door, tmp_path, tiny_root):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ended = door(*TINY, *KERNEL, "checkpoint.monitor=val/psf_correlation", "ema.decay=0.9")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    found = results(run)["metrics"]
    tested = {name for name in found if name.startswith("test/")}
    assert tested == {f"test/{name}" for name in (*NAMES, "psf_correlation")}
    network, test = deblur.load(run), pairs(tiny_root)
    psf = network.with_psf(test.blurred).psf
    assert psf.shape == (61, 1, 7, 7)  # a path of 5 pixels stays within 3 of its mean position
    mean = psf_correlation(psf, test.motion.psf).double().mean().item()
    assert found["test/psf_correlation"] == pytest.approx(mean, abs=1e-5)
    (line,) = [line for line in ended.out.splitlines() if "PSF correlation" in line]
    assert f"{mean:.4f}" in line
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["task"]["psf_size"] == 7
    assert config["module"]["psf_weight"] > 0
    events = EventAccumulator(str(run))
    events.Reload()
    assert len(events.Scalars("val/psf_correlation")) == 2
    again = door(*TINY, *KERNEL, f"resume={run}", "trainer.max_epochs=3")
    assert again.code == 0, again.err


def test_training_brings_the_psf_nearer_to_the_truth(tmp_path, tiny_root, monkeypatch):
    monkeypatch.setenv("DEBLUR_DATA", str(tiny_root))
    torch.manual_seed(0)
    plan = make_plan(composed(*TINY, *KERNEL))
    module, batch = plan.module, plan.data.evaluation_pairs("val")[:16]
    optimizer = torch.optim.Adam(module.network.parameters(), lr=1e-2)

    def correlation() -> float:
        with torch.no_grad():
            found = module.network.estimates(batch.blurred).psfs[-1]
        return psf_correlation(found, batch.motion.psf).mean().item()

    before = correlation()
    for _ in range(20):
        optimizer.zero_grad()
        module._training_loss(batch).backward()
        optimizer.step()
    assert correlation() > before + 0.1


def test_a_run_given_estimated_psfs_holds_its_estimator(door, tmp_path, runs):
    task = ("task=nonblind", "task.psf=estimated")
    shutil.copytree(runs / "kernel", tmp_path / "estimator")
    ended = door(*TINY, *task, "task.estimator=estimator", "trainer.max_epochs=1", "optimizer.weight_decay=0.1")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    inside = {
        name.removeprefix("network.estimator."): value
        for name, value in weights(run).items()
        if name.startswith("network.estimator.")
    }
    saved = weights(runs / "kernel", "best")
    assert_equal_weights(inside, {name.removeprefix("network."): value for name, value in saved.items()})
    shutil.rmtree(tmp_path / "estimator")
    blurred = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    restored = deblur.load(run).with_psf(blurred)
    torch.testing.assert_close(restored.psf, deblur.load(runs / "kernel").with_psf(blurred).psf)
    assert "test/psf_correlation" in results(run)["metrics"]
    again = door(f"resume={run}", "trainer.max_epochs=2")
    assert again.code == 0, again.err


def test_a_network_that_is_given_the_psf_asks_for_it(runs, tiny_root):
    network, test = deblur.load(runs / "known"), pairs(tiny_root)
    assert network.takes_psf
    assert network(test.blurred, test.motion.psf).shape == test.blurred.shape
    with pytest.raises(ArgumentError, match=r"^psf=null"):
        network(test.blurred)
    with pytest.raises(ArgumentError, match=r"of shape \(61, 1, K, K\)"):
        network(test.blurred, test.motion.psf[:5])
    with pytest.raises(ArgumentError, match="left out"):
        deblur.load(runs / "blind")(test.blurred, test.motion.psf)


@pytest.mark.parametrize("name", ["kernel", "known", "estimated"])
def test_a_published_run_of_a_task_is_whole(runs, tmp_path, tiny_root, name):
    test = pairs(tiny_root)
    given = (test.blurred, test.motion.psf) if name == "known" else (test.blurred,)
    small = deblur.load(publish(runs / name, tmp_path / "small"))
    torch.testing.assert_close(small(*given), deblur.load(runs / name)(*given), atol=2e-2, rtol=0)


def test_evaluation_compares_known_estimated_and_unknown_psfs(door, runs, tmp_path, tiny_root):
    names = ("blind", "kernel", "known", "estimated")
    typed = ("run=" + ",".join(str(runs / name) for name in names), f"estimator={runs / 'kernel'}", "output=found")
    ended = door(*typed, "metrics=[psnr,mse,psf_correlation]", **EVALUATE)
    assert ended.code == 0, ended.err
    (file,) = (tmp_path / "found").glob("*.json")
    assert "estimator=kernel" in file.stem
    found = json.loads(file.read_text())
    assert "run=blind,kernel,known,estimated estimator=kernel" in found["command"]
    methods = found["conditions"][0]["methods"]
    kinds = [
        "blind (blind)",
        "kernel (kernel)",
        "known (nonblind, true PSF)",
        f"known (nonblind, PSF of {runs.name}/kernel)",
        "estimated (nonblind, estimated PSF)",
    ]
    assert list(methods) == ["blurred", *kinds]
    test = pairs(tiny_root)
    kernel, known = deblur.load(runs / "kernel"), deblur.load(runs / "known")
    psf = kernel.with_psf(test.blurred).psf
    for name, images in ((kinds[2], known(test.blurred, test.motion.psf)), (kinds[3], known(test.blurred, psf))):
        mse = (images - test.sharp).square().mean().item()
        assert methods[name]["metrics"]["mse"]["mean"] == pytest.approx(mse, rel=1e-4)
    correlation = psf_correlation(psf, test.motion.psf).mean().item()
    for name in (kinds[1], kinds[3], kinds[4]):  # the same estimator in all
        assert methods[name]["metrics"]["psf_correlation"]["mean"] == pytest.approx(correlation, abs=1e-4)
    for name in ("blurred", kinds[0], kinds[2]):
        assert "psf_correlation" not in methods[name]["metrics"]


def test_another_try_of_a_job_takes_up_the_run_of_the_first(runs):
    saved = yaml.safe_load((runs / "estimated/config.yaml").read_text())
    assert saved["task"]["estimator_network"]["task"]["psf_size"] == 7
    typed = saved | {"task": {**saved["task"], "estimator_network": None}}
    assert differences(saved, typed) == []
    assert differences(saved, typed | {"task": {**typed["task"], "filters": 2}}) == ["task.filters=3"]
    saved = yaml.safe_load((runs / "kernel/config.yaml").read_text())
    assert differences(saved, saved | {"task": {**saved["task"], "psf_size": None}}) == []
    assert differences(saved, saved | {"task": {**saved["task"], "psf_size": 9}}) == ["task.psf_size=7"]


def test_restoring_a_picture_takes_the_psf_from_a_file(door, runs, tmp_path):
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    np.save(tmp_path / "psf.npy", np.eye(7))
    np.save(tmp_path / "two.npy", np.ones((2, 3, 3)))
    np.save(tmp_path / "large.npy", np.ones((31, 31)))
    restore = partial(
        door, "input=photo.png", "output=made", config="restore", task="deblur.restoration.restore:restore"
    )
    ended = restore(f"run={runs / 'known'}", "psf=psf.npy")
    assert ended.code == 0, ended.err
    image = torch.from_numpy(picture).float().div(255)[None, None]
    made = deblur.load(runs / "known")(image, torch.eye(7)[None, None] / 7)
    with Image.open(tmp_path / "made/photo.png") as written:
        np.testing.assert_allclose(np.asarray(written) / 255, made[0, 0].numpy(), atol=0.51 / 255)
    for arguments, words in (
        ([f"run={runs / 'known'}"], "psf=null"),
        ([f"run={runs / 'blind'}", "psf=psf.npy"], "leave psf out"),
        ([f"run={runs / 'known'}", "psf=nowhere.npy"], "psf=nowhere.npy"),
        ([f"run={runs / 'known'}", "psf=two.npy"], "one PSF, these are 2"),
    ):
        ended = restore(*arguments)
        assert ended.code == 2
        (line,) = ended.err.strip().splitlines()
        assert words in line
    ended = restore(f"run={runs / 'known'}", "psf=large.npy")
    assert ended.code == 2
    assert "31x31" in ended.err


SMALL = ("model=deconvolver", "model.psf_size=8", "model.stages=1", "model.psf_width=4", "model.psf_hidden=8")

# (command line, what the line must say); {runs} is the folder of runs
WRONG = [
    (["task=kernell"], ["task=kernell", "did you mean kernel", "blind, kernel, nonblind"]),
    (["task=kernel", "task.psf_size=29"], ["task.psf_size=29", "1 to 28"]),
    (["task=kernel", "task.psf_size=wide"], ["task.psf_size=wide", "whole number"]),
    (["task=kernel", "task.width=0"], ["task.width=0"]),
    (["task=kernel", "task.widht=3"], ["task.widht=3", "did you mean width"]),
    (["task=kernel", "module.psf_weight=0"], ["module.psf_weight=0", "head"]),
    (["task=kernel", "module.intermediate_weight=1"], ["module.intermediate_weight=1", "CNN"]),
    (["module.psf_weight=1"], ["module.psf_weight=1", "CNN"]),
    (["task=nonblind", "module.psf_weight=1"], ["module.psf_weight=1", "CNN"]),
    (["task=nonblind", "task.psf=guessed"], ["task.psf=guessed", "true or estimated"]),
    (["task=nonblind", "task.filters=0"], ["task.filters=0"]),
    (["task=nonblind", "task.psf=estimated"], ["task.estimator=null", "a run"]),
    (["task=nonblind", "task.estimator={runs}/kernel"], ["task.estimator=", "null with psf=true"]),
    (["task=nonblind", "task.psf=estimated", "task.estimator=nowhere"], ["task.estimator=nowhere", "no run"]),
    (["task=nonblind", "task.psf=estimated", "task.estimator={runs}/blind"], ["blind", "estimates PSFs itself"]),
    (["task=nonblind", "task.psf=estimated", "task.estimator={runs}/known"], ["known", "task=kernel"]),
    (["task=nonblind", "task.psf=estimated", "task.estimator={runs}/estimated"], ["estimated", "task=kernel"]),
    (["task=nonblind", "task.psf=estimated", "task.estimator={runs}/stageless"], ["stageless", "task=kernel"]),
    (["task=nonblind", "model._target_=torch.nn.Identity"], ["Identity", "channels"]),
    (["task._target_=deblur.models.CNN"], ["task._target_=deblur.models.CNN", "deblur.tasks.Task"]),
    (["task=kernel", "blur=shake3d"], ["task:", "Shake3D", "differently"]),
    (["task=nonblind", "blur=shake3d"], ["task=nonblind:", "Shake3D", "differently"]),
    (
        [*SMALL, "blur=shake3d", "module.psf_weight=1"],
        ["module.psf_weight=1", "Shake3D", "differently", "module.psf_weight=0"],
    ),
    ([*SMALL, "task=kernel", "module.psf_weight=1", "task.psf_size=9"], ["task.psf_size=9", "model.psf_size"]),
    ([*SMALL, "model.stages=0", "module.psf_weight=1"], ["module.psf_weight=1", "no PSFs"]),
    (
        [*SMALL, "model.stages=0", "module.psf_weight=0", "checkpoint.monitor=val/psf_correlation"],
        ["checkpoint.mon", "no PSFs"],
    ),
    (["checkpoint.monitor=val/psf_correlation"], ["checkpoint.monitor=val/psf_correlation", "task=kernel"]),
]


def test_a_model_that_finds_psfs_needs_no_head_and_warns_of_larger_ones(tmp_path, tiny_root, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    root = f"data.root={tiny_root}"
    plan = make_plan(composed(*TINY[3:], root, *SMALL, "task=kernel", "module.psf_weight=1", "blur.length=5"))
    assert plan.settings["task"]["psf_size"] is None
    assert not caplog.records
    make_plan(composed(*TINY[3:], root, *SMALL, "blur=line", "blur.length=15"))
    (warning,) = caplog.messages
    assert "8x8 pixels" in warning
    assert "model.psf_size" in warning


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[" ".join(line).replace("{runs}/", "") for line, _ in WRONG])
def test_a_wrong_task_is_one_line_and_leaves_nothing(door, tmp_path, runs, arguments, said):
    model = [] if any("Identity" in argument or "deconvolver" in argument for argument in arguments) else TINY[:3]
    ended = door(*model, *TINY[3:], *(argument.format(runs=runs) for argument in arguments))
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("run", "arguments", "said"),
    [
        ("blind", ["estimator={runs}/kernel"], ["estimator=", "none of the runs is given PSFs"]),
        ("known", ["estimator={runs}/blind"], ["estimator=", "estimates PSFs itself"]),
        ("known", ["estimator=nowhere"], ["estimator=nowhere", "no run"]),
        ("blind", ["metrics=[psf_correlation]"], ["metrics=psf_correlation", "they are not both there"]),
    ],
)
def test_a_wrong_evaluation_is_one_line(door, tmp_path, runs, run, arguments, said):
    ended = door(f"run={runs / run}", *(argument.format(runs=runs) for argument in arguments), **EVALUATE)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert list(tmp_path.iterdir()) == []


def test_what_an_estimators_run_names_is_not_followed(door, tmp_path, runs):
    shutil.copytree(runs / "kernel", tmp_path / "foreign")
    file = tmp_path / "foreign/checkpoints/best.ckpt"
    saved = torch.load(file, weights_only=True)
    saved["hyper_parameters"]["model"] = {"_target_": "tests.conftest.Ended"}
    torch.save(saved, file)
    ended = door(*TINY, "task=nonblind", "task.psf=estimated", "task.estimator=foreign")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "tests.conftest.Ended" in line
    assert "not trusted" in line
