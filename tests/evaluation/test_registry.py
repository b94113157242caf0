"""Metrics by name: all are listed, all can be computed, and each knows what it applies to."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from deblur.errors import ArgumentError
from deblur.evaluation import registry
from deblur.evaluation.frequency import bands, frequency_metrics
from deblur.evaluation.registry import DIGIT, METRICS, Truth, choose, measure
from deblur.metrics import image_metrics

PHOTOGRAPH = (3, 180, 200)
FOR_ALL = ["psnr", "psnr_aligned", "ssim", "mse", "spectrum_error", "high_frequency_ratio"]


def names(image_shape: tuple[int, int, int], labelled: bool) -> list[str]:
    return [metric.name for metric in choose(None, image_shape, labelled=labelled)]


def pair(image_shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    sharp = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
    return avg_pool2d(sharp, 3, stride=1, padding=1), sharp


def test_without_names_all_that_apply_are_chosen():
    assert sorted(names(DIGIT, labelled=True)) == sorted([*FOR_ALL, "legibility"])
    assert sorted(names(DIGIT, labelled=False)) == sorted(FOR_ALL)
    assert sorted(names(PHOTOGRAPH, labelled=False)) == sorted([*FOR_ALL, "ms_ssim"])
    assert sorted(names((1, 8, 40), labelled=False)) == ["mse", "psnr", "psnr_aligned", "ssim"]
    assert [metric.name for metric in choose(["lpips"], PHOTOGRAPH, labelled=False)] == ["lpips"]


def test_unknown_name_is_refused_with_the_list():
    with pytest.raises(ArgumentError, match=re.escape(f"one of {', '.join(METRICS)}; did you mean psnr?")) as error:
        choose(["ssim", "psrn"], DIGIT, labelled=True)
    assert error.value.value == "psrn"


@pytest.mark.parametrize(
    ("name", "image_shape", "labelled", "why"),
    [
        ("ms_ssim", DIGIT, True, "at least 176x176 pixels"),
        ("lpips", DIGIT, True, "photographs only"),
        ("lpips", DIGIT, False, "at least 64x64 pixels"),
        ("lpips", (4, 100, 100), False, "photographs only"),
        ("legibility", DIGIT, False, "MNIST's digits only"),
        ("legibility", (1, 32, 32), True, "MNIST's digits only"),
        ("spectrum_error", (1, 19, 40), False, "at least 20x20 pixels"),
    ],
)
def test_metric_that_does_not_apply_says_why(name, image_shape, labelled, why):
    with pytest.raises(ArgumentError, match=f"metrics={name}: must be left out .*{why}"):
        choose([name], image_shape, labelled=labelled)


@pytest.mark.parametrize(("image_shape", "labelled"), [(DIGIT, True), (PHOTOGRAPH, False), ((1, 7, 9), False)])
def test_what_is_chosen_is_measured_and_blur_is_worse_than_the_truth(image_shape, labelled):
    images, sharp = pair(image_shape)
    chosen = choose(None, image_shape, labelled=labelled)
    truth = Truth(sharp, torch.tensor([3, 4]) if labelled else None)
    blurred, perfect = measure(chosen, images, truth), measure(chosen, sharp, truth)
    assert list(blurred) == list(perfect) == [metric.name for metric in chosen]
    for metric in chosen:
        value, best = blurred[metric.name], perfect[metric.name]
        assert value.shape == (2,)
        if metric.name == "legibility":
            assert ((value == 0) | (value == 1)).all()
        elif metric.direction == "one":
            assert best.tolist() == [1, 1]
            assert (value < 0.5).all()
        else:
            assert ((value < best) if metric.direction == "higher" else (value > best)).all()


def test_what_metrics_share_is_computed_once(monkeypatch):
    calls = []
    monkeypatch.setattr(registry, "image_metrics", lambda *sides: calls.append(1) or image_metrics(*sides))
    images, sharp = pair(DIGIT)
    values = measure(choose(["ssim", "mse", "psnr"], DIGIT, labelled=True), images, Truth(sharp))
    assert len(calls) == 1
    assert list(values) == ["psnr", "ssim", "mse"]
    assert all(torch.equal(values[name], expected) for name, expected in image_metrics(images, sharp).items())


def test_the_truths_spectrum_is_computed_once_for_all_methods(monkeypatch):
    calls = []
    monkeypatch.setattr(registry, "bands", lambda images: calls.append(images) or bands(images))
    images, sharp = pair(DIGIT)
    truth = Truth(sharp)
    for side in (images, sharp):
        values = measure(choose(["spectrum_error", "high_frequency_ratio"], DIGIT, labelled=True), side, truth)
        assert all(torch.equal(values[name], expected) for name, expected in frequency_metrics(side, sharp).items())
    assert len(calls) == 1
    assert calls[0] is sharp


def test_sides_of_two_shapes_and_digits_without_labels_are_refused():
    images, sharp = pair(DIGIT)
    with pytest.raises(ArgumentError, match="of the sharp images' shape"):
        measure(choose(["psnr"], DIGIT, labelled=True), images[:1], Truth(sharp))
    with pytest.raises(ArgumentError, match="labels=null: must be the digits"):
        measure(choose(["legibility"], DIGIT, labelled=True), images, Truth(sharp))
