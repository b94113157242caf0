"""Evaluation pairs never change; training pairs are a function of (seed, rank, number of the batch)."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.blur import Blur, GaussianProcess, Line, RandomWalk, Shake
from deblur.data.kernel_file import KernelFile
from deblur.data.module import DeblurDataModule, Images
from deblur.data.pairs import EvaluationPairs, Pairs, TrainingPairs, to_float

COUNT = 2100  # images: two borders of the blocks of 1,024
IMAGES = torch.randint(0, 256, (COUNT, 1, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BLURS = ("shake", "noisy", "random_walk", "kernels")


@functools.cache
def blur_of(name: str, folder: Path) -> Blur:
    if name == "kernels":
        file = folder / "psfs.npy"
        np.save(file, np.random.default_rng(0).random((6, 3, 3)))
        return KernelFile(str(file), noise=[0, 0.1])
    return {
        "shake": Shake([1, 5]),
        "noisy": GaussianProcess(3, noise=[0.01, 0.1]),
        "random_walk": RandomWalk(4, noise=0.02),
    }[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@functools.cache
def pairs_of(name: str, folder: Path) -> EvaluationPairs:
    return EvaluationPairs(IMAGES, blur_of(name, folder), eval_seed=0, split="val")


@functools.cache
def all_pairs(name: str, folder: Path) -> Pairs:
    return EvaluationPairs(IMAGES, blur_of(name, folder), eval_seed=0, split="val")[0:COUNT]


def assert_same(one: Pairs, two: Pairs) -> None:
    """The same to the last digit, motions included."""
    assert torch.equal(one.sharp, two.sharp)
    assert torch.equal(one.blurred, two.blurred)
    assert len(one.motion) == len(two.motion) == len(one.sharp)
    assert torch.equal(one.motion.noise, two.motion.noise)
    assert torch.equal(one.motion.psf, two.motion.psf)
    assert (one.motion.trajectory is None) == (two.motion.trajectory is None)
    if one.motion.trajectory is not None:
        assert torch.equal(one.motion.trajectory, two.motion.trajectory)


def part(pairs: Pairs, low: int, high: int) -> Pairs:
    return Pairs(pairs.sharp[low:high], pairs.blurred[low:high], pairs.motion[low:high])


def test_bytes_become_floats_from_0_to_1():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    assert floats.dtype == torch.float32
    torch.testing.assert_close(floats, torch.linspace(0, 1, 256))
    assert levels.dtype == torch.uint8


@given(st.sampled_from(BLURS), st.tuples(st.integers(0, COUNT - 1), st.integers(1, COUNT)))
@settings(deadline=None, max_examples=60)
def test_evaluation_pairs_are_the_same_in_every_span(folder, name, span):
    low, count = span
    high = min(low + count, COUNT)
    assert_same(pairs_of(name, folder)[low:high], part(all_pairs(name, folder), low, high))


@pytest.mark.parametrize("name", BLURS)
@pytest.mark.parametrize("batch_size", [128, 1000, 1024, 1025, COUNT, 5000])
def test_evaluation_pairs_are_the_same_for_every_batch_size(folder, name, batch_size):
    pairs = EvaluationPairs(IMAGES, blur_of(name, folder), eval_seed=0, split="val")
    batches = [pairs[low : low + batch_size] for low in range(0, COUNT, batch_size)]
    assert sum(len(batch.sharp) for batch in batches) == COUNT
    joined = Pairs(
        torch.cat([batch.sharp for batch in batches]),
        torch.cat([batch.blurred for batch in batches]),
        type(batches[0].motion).cat([batch.motion for batch in batches]),
    )
    assert_same(joined, all_pairs(name, folder))


@pytest.mark.parametrize("name", BLURS)
def test_evaluation_pairs_do_not_depend_on_what_was_asked_before(folder, name):
    last = EvaluationPairs(IMAGES, blur_of(name, folder), eval_seed=0, split="val")[2050:2100]
    torch.manual_seed(5)
    torch.rand(3)
    assert_same(last, part(all_pairs(name, folder), 2050, 2100))


def test_evaluation_pairs_are_the_images_blurred_by_their_motions(folder):
    blur, pairs = blur_of("shake", folder), all_pairs("shake", folder)
    assert torch.equal(pairs.sharp, to_float(IMAGES))
    torch.testing.assert_close(pairs.blurred, blur.apply(pairs.sharp, pairs.motion))
    assert len(pairs.motion.psf.unique(dim=0)) == COUNT  # no block repeats another's


@pytest.mark.parametrize("name", BLURS)
def test_evaluation_pairs_differ_between_splits_and_eval_seeds(folder, name):
    blur = blur_of(name, folder)
    seen = [all_pairs(name, folder)[1][:32]]
    for eval_seed, split in ((0, "test"), (1, "val"), (1, "test")):
        pairs = EvaluationPairs(IMAGES[:32], blur, eval_seed=eval_seed, split=split)[0:32]
        assert torch.equal(pairs.sharp, to_float(IMAGES[:32]))
        assert all(not torch.allclose(pairs.blurred, other, atol=1e-3) for other in seen)
        seen.append(pairs.blurred)


class Given(DeblurDataModule):
    """The same images for every split."""

    def load(self) -> Images:
        return Images(IMAGES[:64], IMAGES[:64], IMAGES[:64], "given")


def test_evaluation_pairs_of_a_datamodule_depend_on_eval_seed_never_on_seed():
    def pairs(split: str = "val", **settings: int) -> Pairs:
        return Given(Shake(3, noise=0.1), **settings).evaluation_pairs(split)[0:64]

    assert_same(pairs(), pairs(seed=8))
    assert_same(pairs(), pairs(batch_size=7))
    assert_same(pairs("test"), pairs("test", seed=8))
    assert not torch.equal(pairs().blurred, pairs(eval_seed=8).blurred)
    assert not torch.equal(pairs().blurred, pairs("test").blurred)


def test_loaders_of_a_datamodule_give_its_fixed_pairs():
    data = Given(Line(3), batch_size=10)
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        batches = [batch.pairs for batch in loader]
        assert max(len(batch.sharp) for batch in batches) <= 10
        expected = data.evaluation_pairs(split)[0:64]
        assert torch.equal(torch.cat([batch.blurred for batch in batches]), expected.blurred)


def test_training_batches_of_a_datamodule_are_blurred_once_transferred():
    data = Given(Line(3), batch_size=10, seed=4)
    batch = next(iter(data.train_dataloader()))
    pairs = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(pairs.sharp, to_float(batch.images))
    assert_same(pairs, TrainingPairs(Line(3), seed=4, rank=0, batch_size=10)(batch.images, 0))
    assert data.on_after_batch_transfer(pairs, 0) is pairs


@functools.cache
def training_pairs(number: int, seed: int = 0, rank: int = 0, batch_size: int = 700, name: str = "line") -> Pairs:
    """Each from an object of its own."""
    blur = {"line": Line([1, 5], noise=0.05), "shake": Shake(4, points=8), "walk": RandomWalk(3)}[name]
    return TrainingPairs(blur, seed=seed, rank=rank, batch_size=batch_size)(IMAGES[:batch_size], number)


@given(
    st.sampled_from(["line", "shake", "walk"]),
    st.lists(st.sampled_from([0, 1, 4, 5, 6, 10, 123_456]), min_size=1, max_size=6),
)
@settings(deadline=None, max_examples=25)
def test_training_pairs_do_not_depend_on_the_order_of_asking(name, order):
    blur = {"line": Line([1, 5], noise=0.05), "shake": Shake(4, points=8), "walk": RandomWalk(3)}[name]
    pairs = TrainingPairs(blur, seed=0, rank=0, batch_size=700)  # 5 batches a block
    for number in order:
        assert_same(pairs(IMAGES[:700], number), training_pairs(number, name=name))


def test_every_training_batch_and_image_has_its_own_blur():
    motions = torch.cat([training_pairs(number).motion.trajectory for number in (0, 1, 4, 5, 6, 123_456)])
    assert len(motions.unique(dim=0)) == 6 * 700


def test_training_noise_is_fresh_in_every_batch():
    noises = []
    for number in (0, 1, 5):
        pairs = training_pairs(number)
        noises.append(pairs.blurred - Line([1, 5]).apply(pairs.sharp, pairs.motion))
        assert noises[-1].std().item() == pytest.approx(0.05, rel=0.05)
    assert not torch.allclose(noises[0], noises[1], atol=0.01)
    assert not torch.allclose(noises[0], noises[2], atol=0.01)


def test_training_pairs_differ_between_seeds_ranks_and_from_evaluation():
    every = [training_pairs(0, seed, rank) for seed, rank in ((0, 0), (0, 1), (1, 0), (1, 1))]
    every += [
        EvaluationPairs(IMAGES[:700], Line([1, 5], noise=0.05), eval_seed=0, split=split)[0:700]
        for split in ("val", "test")
    ]
    assert len({pairs.motion.psf.numpy().tobytes() for pairs in every}) == len(every)
    blur = Line([1, 5])
    noises = {(pairs.blurred - blur.apply(pairs.sharp, pairs.motion)).numpy().round(3).tobytes() for pairs in every}
    assert len(noises) == len(every)


@pytest.mark.parametrize("batch_size", [1, 3, 1000, 2100])
def test_training_pairs_serve_any_batch_size_and_smaller_last_batches(batch_size):
    pairs = TrainingPairs(Line(3), seed=0, rank=0, batch_size=batch_size)
    whole = pairs(IMAGES[:batch_size], 2)
    assert whole.blurred.shape == (batch_size, 1, 9, 7)
    count = max(1, batch_size // 2)
    assert_same(pairs(IMAGES[:count], 2), part(whole, 0, count))


def test_pairs_leave_the_images_and_the_global_generator_alone(folder):
    before, state = IMAGES.clone(), torch.get_rng_state()
    pairs = TrainingPairs(Shake(3, noise=0.1), seed=0, rank=0, batch_size=8)(IMAGES[:8], 0)
    EvaluationPairs(IMAGES[:8], Shake(3, noise=0.1), eval_seed=0, split="val")[0:8]
    pairs.sharp.zero_()
    assert torch.equal(IMAGES, before)
    assert torch.equal(torch.get_rng_state(), state)
