"""What an evaluation of many conditions keeps in memory, and what it reads twice: as little as it can."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur.data import photographs
from deblur.data.module import DeblurDataModule
from deblur.data.pairs import EvaluationPairs
from deblur.evaluation.evaluate import evaluate_runs

LENGTHS = ("protocol=lengths", "protocol.blurs=[line,shake]", "protocol.lengths=[3,5]")


@pytest.fixture(autouse=True)
def _tiny_digits(monkeypatch: pytest.MonkeyPatch, tiny_root: Path) -> None:
    monkeypatch.setenv("DEBLUR_DATA", str(tiny_root))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[EvaluationPairs]:
    """All fixed pairs that are made, in order."""
    pairs, fixed_pairs = [], DeblurDataModule.fixed_pairs

    def watched(self, *arguments):
        pairs.append(fixed_pairs(self, *arguments))
        return pairs[-1]

    monkeypatch.setattr(DeblurDataModule, "fixed_pairs", watched)
    return pairs


def kept(pairs: EvaluationPairs) -> int:
    """Blocks of pairs in memory."""
    return pairs._block.cache_info().currsize


def test_pairs_of_a_condition_are_dropped_when_it_is_measured(runs, made):
    evaluation = evaluate_runs(runs / "mine", *LENGTHS, "metrics=[psnr]", "baselines=wiener", "baseline_images=20")
    assert [pairs.split for pairs in made] == ["test"] * 4 + ["val"] * 4
    assert made[0] is evaluation.pairs
    assert [kept(pairs) for pairs in made] == [1] + [0] * 7


def test_pairs_that_were_dropped_are_made_again_the_same(runs, made):
    pairs = evaluate_runs(runs / "mine", "metrics=[psnr]").pairs
    before = pairs[:]
    pairs.forget()
    assert kept(pairs) == 0
    assert before.blurred.equal(pairs[:].blurred)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number:02}.png")
    return tmp_path / "photos"


def test_photographs_are_decoded_once_for_all_conditions(runs, photos, made, monkeypatch):
    read, decoded = photographs.read_photograph, Counter()

    def counted(file, channels):
        decoded[file.name] += 1
        return read(file, channels)

    monkeypatch.setattr(photographs, "read_photograph", counted)
    data = ("data=images", f"data.root={photos}", "data.size=16", "data.channels=1")
    evaluation = evaluate_runs(runs / "mine", *data, *LENGTHS, "metrics=[psnr]")
    assert decoded == dict.fromkeys(decoded, 1)
    assert len(decoded) == 2  # one for validation, one for test
    sides = {pairs.images.shape[-1]: pairs.images.data_ptr() for pairs in made}
    assert len(sides) == 2  # the margins of two lengths
    assert all(pairs.images.data_ptr() == sides[pairs.images.shape[-1]] for pairs in made)
    for condition in evaluation.results["conditions"]:
        kind, length = condition["labels"].values()
        alone = evaluate_runs(
            runs / "mine", *data, f"blur={kind}", f"blur.length={length}", "blur.noise=0.02", "metrics=[psnr]"
        )
        one = alone.results["conditions"][0]["methods"]["blurred"]["metrics"]["psnr"]["mean"]
        assert condition["methods"]["blurred"]["metrics"]["psnr"]["mean"] == pytest.approx(one, rel=1e-6)


def test_what_is_kept_of_decoded_photographs_has_a_limit_and_ends_with_the_block(photos, monkeypatch):
    read, decoded = photographs.read_photograph, Counter()
    monkeypatch.setattr(
        photographs, "read_photograph", lambda file, channels: decoded.update([file.name]) or read(file, channels)
    )
    files = sorted(photos.iterdir())[:3]
    with photographs.decoding_once(cache_mb=0.007):  # two grey ones of 3,000 pixels
        for _ in range(2):
            some = photographs.Photos(files, 1, 0.0)
            assert [some[number].shape for number in range(3)] == [(1, 50, 60)] * 3
    assert list(decoded.values()) == [1, 1, 2]
