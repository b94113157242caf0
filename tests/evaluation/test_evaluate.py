"""The evaluation from the command line to its files: what training reported, other pairs, several runs."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deblur.blur import Blur, Camera, Line, Shake
from deblur.data.digits import MNIST
from deblur.data.pairs import EvaluationPairs
from deblur.evaluation.baselines import Wiener
from deblur.evaluation.legibility import legibility
from deblur.metrics import image_metrics
from tests.conftest import TINY, only_run, results, write_idx
from tests.evaluation.conftest import change
from tests.training.test_weights import made_run

PSNR = "metrics=[psnr]"
MSE = "metrics=[mse]"  # without PSNR there is nothing to draw


def means(found: dict, condition: int = 0) -> dict[str, dict[str, float]]:
    """The mean of each metric by method."""
    methods = found["conditions"][condition]["methods"]
    return {name: {key: value["mean"] for key, value in of["metrics"].items()} for name, of in methods.items()}


def pairs_of(blur: Blur, root: Path, split: str = "test") -> EvaluationPairs:
    return MNIST(blur, root=str(root), val_size=40).evaluation_pairs(split)


def blurred_mse(blur: Blur, root: Path) -> float:
    pairs = pairs_of(blur, root)[:]
    return image_metrics(pairs.blurred, pairs.sharp)["mse"].double().mean().item()


def test_a_fresh_run_evaluates_to_what_its_training_reported_the_same_each_time(door, evaluate, tmp_path):
    trained = door(*TINY, "output_root=whole", "trainer.max_epochs=1")
    run = only_run(tmp_path / "whole")
    reported = results(run)["metrics"]
    ended = evaluate(f"run={run}")
    assert ended.code == 0, ended.err
    folder = run / "evaluation"
    found = json.loads((folder / "test.json").read_text())
    measured = means(found)
    (name,) = found["parameters"]
    assert list(measured) == ["blurred", name]
    assert found["parameters"][name] == results(run)["parameters"]
    for metric in ("psnr", "ssim", "mse"):
        assert measured[name][metric] == pytest.approx(reported[f"test/{metric}"], rel=1e-6)
        assert measured["blurred"][metric] == pytest.approx(reported[f"test/{metric}_blurred"], rel=1e-6)
    for method in (name, "blurred"):
        for metric, digits in (("psnr", 2), ("ssim", 4), ("mse", 6)):
            shown = f"{measured[method][metric]:.{digits}f}"
            assert shown in trained.out
            assert shown in ended.out
            assert shown in (folder / "test.md").read_text()
    assert found["images"] == 61
    for figure in ("test_images.png", "test_spectra.png"):
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
    assert "legibility" not in found["metrics"]  # the tiny data have no labels
    assert ended.err.count("legibility is left out") == 1
    again = evaluate(f"run={run}", "output=again")
    assert again.code == 0, again.err
    for kind in ("json", "csv", "md"):
        assert (tmp_path / f"again/test.{kind}").read_bytes() == (folder / f"test.{kind}").read_bytes()


def test_csv_and_markdown_hold_what_the_json_holds(evaluate, runs, tmp_path):
    assert evaluate(f"run={runs / 'mine'}", "metrics=[mse,ssim]", "images=20", "output=found").code == 0
    found = json.loads((tmp_path / "found/test_images=20.json").read_text())
    assert found["metrics"] == ["ssim", "mse"]
    with (tmp_path / "found/test_images=20.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["metric"]) for row in rows] == [
        (method, metric) for method in ("blurred", "mine") for metric in ("ssim", "mse")
    ]
    for row in rows:
        of = found["conditions"][0]["methods"][row["method"]]["metrics"][row["metric"]]
        assert {key: float(row[key]) for key in of} == of
        assert of["low"] < of["mean"] < of["high"]
        assert of["images"] == 20
    text = (tmp_path / "found/test_images=20.md").read_text()
    assert text.startswith("`python evaluate.py run=mine metrics=[mse,ssim] images=20`")
    assert "| mine |" in text


@pytest.mark.parametrize("place", ["mine", "mine/checkpoints/best.ckpt"])
def test_a_run_is_its_folder_or_its_checkpoint(measure, runs, place):
    found, _ = measure(f"run={runs / place}", MSE)
    assert list(means(found)) == ["blurred", "mine"]


def test_a_published_run_is_evaluated_like_any_other(measure, runs):
    found, _ = measure(f"run={runs / 'published'}", MSE)
    own, _ = measure(f"run={runs / 'mine'}", MSE)
    assert means(found)["published"]["mse"] == pytest.approx(means(own)["mine"]["mse"], rel=0.01)
    assert means(found)["blurred"] == means(own)["blurred"]


def test_a_setting_of_the_blur_changes_that_alone(measure, runs, tiny_root):
    own, _ = measure(f"run={runs / 'mine'}", MSE)
    found, _ = measure(f"run={runs / 'mine'}", MSE, "blur.length=9")
    noise = {"noise": 0.02, "anxiety": 0.5}
    assert means(own)["blurred"]["mse"] == pytest.approx(blurred_mse(Shake(5, **noise), tiny_root), rel=1e-6)
    assert means(found)["blurred"]["mse"] == pytest.approx(blurred_mse(Shake(9, **noise), tiny_root), rel=1e-6)
    assert yaml.safe_load((runs / "mine/config.yaml").read_text())["blur"]["length"] == 5


def test_a_camera_is_put_before_a_runs_blur_and_taken_away(measure, runs, tiny_root, tmp_path):
    filmed = Camera(full_well=50, read_noise=(1, 2), highlights=(0.25, 1.75))
    expected = blurred_mse(Shake(length=5, anxiety=0.5, noise=0.02, camera=filmed), tiny_root)
    typed = ("blur/camera=phone", "blur.camera.full_well=50")
    found, _ = measure(f"run={runs}/mine", *typed, MSE)
    assert means(found)["blurred"]["mse"] == pytest.approx(expected, rel=1e-6)
    shutil.copytree(runs / "mine", tmp_path / "filmed")
    blur = yaml.safe_load((runs / "mine/config.yaml").read_text())["blur"]
    kind = {"_target_": "deblur.blur.Camera", "full_well": 9, "read_noise": [1, 2], "highlights": [0.25, 1.75]}
    change(tmp_path / "filmed", "blur", blur | {"camera": kind})
    found, _ = measure(f"run={tmp_path}/filmed", "blur.camera.full_well=50", MSE)
    assert means(found)["blurred"]["mse"] == pytest.approx(expected, rel=1e-6)
    found, _ = measure(
        f"run={tmp_path}/filmed", "protocol=lengths", "protocol.blurs=[line]", "protocol.lengths=[5]", MSE
    )
    expected = blurred_mse(
        Line(length=5, noise=0.02, camera=Camera(full_well=9, read_noise=[1, 2], highlights=[0.25, 1.75])), tiny_root
    )
    assert means(found)["blurred"]["mse"] == pytest.approx(expected, rel=1e-6)
    found, _ = measure(f"run={tmp_path}/filmed", "blur/camera=off", MSE)
    expected = blurred_mse(Shake(length=5, anxiety=0.5, noise=0.02), tiny_root)
    assert means(found)["blurred"]["mse"] == pytest.approx(expected, rel=1e-6)


def test_baselines_with_a_camera_are_warned_of(measure, runs):
    _, ended = measure(f"run={runs}/mine", "blur/camera=phone", "baselines=wiener", "baseline_images=20", MSE)
    assert "linear light" in ended.err


def test_another_blur_replaces_the_runs_own(measure, runs, tiny_root):
    found, _ = measure(f"run={runs / 'mine'}", MSE, "blur=line", "blur.length=4")
    assert means(found)["blurred"]["mse"] == pytest.approx(blurred_mse(Line(4), tiny_root), rel=1e-6)


def test_other_pairs_have_files_of_their_own(evaluate, runs, tmp_path):
    for arguments in ([], ["blur.length=9"], ["blur=line"], ["images=20"], ["data.eval_seed=1"]):
        assert evaluate(f"run={runs / 'mine'}", MSE, *arguments, "output=found").code == 0
    assert {file.stem for file in (tmp_path / "found").iterdir()} == {
        "test",
        "test_blur.length=9",
        "test_blur=line",
        "test_images=20",
        "test_data.eval_seed=1",
    }


def test_several_runs_stand_in_one_table(evaluate, measure, runs, tmp_path):
    ended = evaluate(f"run={runs / 'mine'},{runs / 'other'}", MSE)
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "outputs/evaluation/test.json").read_text())
    assert list(means(found)) == ["blurred", "mine", "other"]
    assert found["parameters"]["mine"] < found["parameters"]["other"]
    for name in ("mine", "other"):
        alone, _ = measure(f"run={runs / name}", MSE)
        assert means(found)[name] == means(alone)[name]
        assert f"{means(found)[name]['mse']:.6f}" in ended.out
    assert means(found)["mine"] != means(found)["other"]


@pytest.mark.parametrize(
    ("other", "key", "given"),
    [
        ("longer", "blur.length", "blur.length=6"),
        ("panned", "blur._target_", "blur=line"),
        ("reseeded", "data.eval_seed", "data.eval_seed=0"),
    ],
)
def test_runs_of_other_pairs_are_compared_only_on_given_ones(evaluate, runs, tmp_path, other, key, given):
    both = f"run={runs / 'mine'},{runs / other}"
    ended = evaluate(both, MSE)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in (key, "mine", other, f"give {key}"):
        assert words in line
    assert not list(tmp_path.iterdir())
    assert evaluate(both, MSE, given).code == 0


def test_runs_of_other_blurs_are_compared_where_the_protocol_decides_the_blur(measure, runs):
    found, _ = measure(
        f"run={runs / 'mine'},{runs / 'panned'}", MSE, "protocol=noise", "protocol.levels=[0.02]", "blur=shake"
    )
    assert list(means(found)) == ["blurred", "mine", "panned"]
    small = ("protocol=tremor", "protocol.rounds=2", "protocol.digits=20")
    found, _ = measure(f"run={runs / 'mine'},{runs / 'longer'}", *small)
    assert list(means(found)) == ["blurred", "mine", "longer"]


def test_the_report_names_one_command_for_all_its_runs(measure, runs):
    found, _ = measure(f"run={runs / 'mine'},{runs / 'other'}", MSE)
    _, _, *arguments = found["command"].split()
    assert arguments[0] == "run=mine,other"
    assert arguments[1:] == [MSE]


@pytest.mark.parametrize("name", ["blurred", "sharp"])
def test_a_run_is_never_taken_for_a_row_of_another_kind(measure, runs, tmp_path, name):
    shutil.copytree(runs / "mine", tmp_path / name)
    found, _ = measure(f"run={tmp_path / name}", MSE)
    assert list(means(found)) == ["blurred", f"{tmp_path.name}/{name}"]


def test_a_grid_of_lengths_has_a_condition_for_each_and_a_figure(evaluate, runs, tmp_path, tiny_root):
    grid = ["protocol=lengths", "protocol.blurs=[line,shake]", "protocol.lengths=[3,9]"]
    ended = evaluate(f"run={runs / 'mine'}", PSNR, *grid, "output=found")
    assert ended.code == 0, ended.err
    (file,) = (tmp_path / "found").glob("lengths*.json")
    found = json.loads(file.read_text())
    expected = [(name, length) for name in ("line", "shake") for length in (3, 9)]
    assert [tuple(condition["labels"].values()) for condition in found["conditions"]] == expected
    for number, (name, length) in enumerate(expected):
        pairs = pairs_of({"line": Line, "shake": Shake}[name](length, noise=0.02), tiny_root)[:]
        psnr = image_metrics(pairs.blurred, pairs.sharp)["psnr"].double().mean().item()
        assert means(found, number)["blurred"]["psnr"] == pytest.approx(psnr, rel=1e-6)
        assert f"{psnr:.2f}" in ended.out
    for suffix in ("", "_images", "_spectra"):
        assert file.with_name(f"{file.stem}{suffix}.png").read_bytes().startswith(b"\x89PNG")


def test_growing_noise_has_a_condition_for_each_level_and_a_figure(evaluate, runs, tmp_path, tiny_root):
    ended = evaluate(f"run={runs / 'mine'}", PSNR, "protocol=noise", "protocol.levels=[0.0,0.1]", "output=found")
    assert ended.code == 0, ended.err
    (file,) = (tmp_path / "found").glob("noise*.json")
    found = json.loads(file.read_text())
    assert [condition["labels"] for condition in found["conditions"]] == [{"noise": 0.0}, {"noise": 0.1}]
    for number, level in enumerate((0.0, 0.1)):
        pairs = pairs_of(Shake(5, noise=level, anxiety=0.5), tiny_root)[:]
        psnr = image_metrics(pairs.blurred, pairs.sharp)["psnr"].double().mean().item()
        assert means(found, number)["blurred"]["psnr"] == pytest.approx(psnr, rel=1e-6)
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_baselines_parameter_is_chosen_on_validation_images(measure, runs, tiny_root):
    found, ended = measure(f"run={runs / 'mine'}", MSE, "baselines=wiener", "baseline_images=30")
    row = found["conditions"][0]["methods"]["Wiener (true PSF)"]
    blur = Shake(5, noise=0.02, anxiety=0.5)
    validation, test = pairs_of(blur, tiny_root, "val")[:30], pairs_of(blur, tiny_root)[:]

    def psnr(balance: float) -> float:
        restored = Wiener(balance).restore(validation.blurred, validation.motion.psf)
        return image_metrics(restored, validation.sharp)["psnr"].double().mean().item()

    best = max(Wiener.grid, key=psnr)
    assert row["parameter"] == ["balance", pytest.approx(best)]
    restored = Wiener(best).restore(test.blurred, test.motion.psf)
    mse = image_metrics(restored, test.sharp)["mse"].double().mean().item()
    assert row["metrics"]["mse"]["mean"] == pytest.approx(mse, rel=1e-5)
    assert f"Wiener (true PSF), balance {best:g}" in ended.out


def test_test_images_have_no_part_in_a_baselines_choice(measure, runs, tmp_path, tiny_root):
    shutil.copytree(tiny_root / "MNIST", tmp_path / "swapped/MNIST")
    write_idx(tmp_path / "swapped/MNIST/raw/t10k-images-idx3-ubyte", np.full((61, 28, 28), 255))
    chosen = []
    for root in (tiny_root, tmp_path / "swapped"):
        found, _ = measure(f"run={runs / 'mine'}", MSE, "baselines=[wiener]", f"data.root={root}")
        chosen.append((found["conditions"][0]["methods"]["Wiener (true PSF)"]["parameter"], means(found)["blurred"]))
    assert chosen[0][0] == chosen[1][0]
    assert chosen[0][1] != chosen[1][1]


@pytest.fixture
def labelled_root(tmp_path: Path, tiny_root: Path) -> Iterator[Path]:
    shutil.copytree(tiny_root / "MNIST", tmp_path / "labelled/MNIST")
    write_idx(tmp_path / "labelled/MNIST/raw/t10k-labels-idx1-ubyte", np.arange(61) % 10)
    yield tmp_path / "labelled"
    shutil.rmtree(tmp_path / "labelled")


def test_where_there_are_labels_legibility_stands_beside_that_of_sharp_digits(measure, runs, labelled_root):
    found, ended = measure(f"run={runs / 'mine'}", "metrics=[mse,legibility]", f"data.root={labelled_root}")
    assert means(found)["sharp"].keys() == {"legibility"}
    pairs = pairs_of(Shake(5, noise=0.02, anxiety=0.5), labelled_root)[:]
    labels = torch.arange(61) % 10
    for name, images in (("sharp", pairs.sharp), ("blurred", pairs.blurred)):
        assert means(found)[name]["legibility"] == pytest.approx(legibility(images, labels).mean().item())
    assert ended.err == ""


def test_legibility_that_was_asked_for_needs_labels(evaluate, runs, tmp_path):
    ended = evaluate(f"run={runs / 'mine'}", "metrics=[mse,legibility]")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "t10k-labels-idx1-ubyte" in ended.err
    assert not list(tmp_path.iterdir())


def test_other_images_are_evaluated_where_the_network_can(measure, runs, tiny_root, tmp_path):
    made_run(tmp_path / "colour", tiny_root, "data=fashion_mnist", "data.val_size=40")
    found, _ = measure("run=colour", MSE)
    assert found["data"] == "FashionMNIST"
    found, _ = measure(f"run={runs / 'mine'}", MSE, "data._target_=tests.evaluation.made_up.Large")
    assert found["data"] == "made up"
    assert found["images"] == 6


def test_what_a_stored_config_names_is_followed_only_where_it_is_allowed(evaluate, runs, tmp_path):
    ended = evaluate(f"run={runs / 'foreign'}", MSE)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    for words in ("data._target_=tests.evaluation.made_up.Photographs", "not trusted", "allow=[tests]"):
        assert words in ended.err
    ended = evaluate(f"run={runs / 'foreign'}", MSE, "allow=[tests]")
    assert "cannot take images of 3x40x36" in ended.err
