"""The order of training images, resuming between any two batches, and evaluation that repeats no image."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deblur.data.loaders import EvaluationLoader, TrainingLoader
from deblur.errors import UsageError


def images(count: int) -> torch.Tensor:
    """Images of two pixels that spell their index."""
    index = torch.arange(count)
    return torch.stack([index // 256, index % 256], dim=-1).to(torch.uint8).view(count, 1, 1, 2)


def indices(batch: torch.Tensor) -> list[int]:
    pixels = batch.view(-1, 2).int()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def loader(count: int = 50, batch_size: int = 8, seed: int = 0, **place: int) -> TrainingLoader:
    return TrainingLoader(images(count), batch_size=batch_size, seed=seed, **place)


def epoch(loader: TrainingLoader, number: int) -> list[tuple[int, list[int]]]:
    """(number, indices) of each batch of one epoch, as Lightning walks through it."""
    loader.sampler.set_epoch(number)
    return [(batch.number, indices(batch.images)) for batch in loader]


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 4), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_every_image_comes_at_most_once_an_epoch_over_all_processes(count, batch_size, world_size, number):
    assume(count >= world_size)
    seen: list[int] = []
    lengths = set()
    for rank in range(world_size):
        share = loader(count, batch_size, rank=rank, world_size=world_size)
        batches = epoch(share, number)
        assert len(batches) == len(share) >= 1
        lengths.add(len(share))
        assert {len(batch) for _, batch in batches} == {min(batch_size, count // world_size)}
        seen += [index for _, batch in batches for index in batch]
    assert len(lengths) == 1  # no process waits for another
    assert len(seen) == len(set(seen))
    assert count - len(seen) < world_size * min(
        batch_size, count // world_size
    )  # only a last, smaller batch is left out


def test_order_is_a_function_of_seed_and_epoch():
    first = epoch(loader(), 3)
    assert epoch(loader(), 3) == first
    torch.manual_seed(1)
    other = loader()
    for number in (0, 5, 3):
        last = epoch(other, number)
    assert last == first  # whatever was read before
    orders = {str([batch for _, batch in epoch(loader(seed=seed), number)]) for seed in range(4) for number in range(4)}
    assert len(orders) == 16


def test_order_is_shuffled_evenly():
    counts = Counter(epoch(loader(10, 1), number)[0][1][0] for number in range(1000))
    assert set(counts) == set(range(10))
    assert max(counts.values()) < 150


def test_batches_are_numbered_through_all_epochs():
    numbers = [batch_number for number in range(3) for batch_number, _ in epoch(loader(), number)]
    assert numbers == list(range(18))


def test_reading_disturbs_no_global_generator():
    state = torch.get_rng_state()
    epoch(loader(), 0)
    assert torch.equal(torch.get_rng_state(), state)


@given(st.integers(0, 3), st.integers(1, 6), st.integers(1, 2))
@settings(deadline=None, max_examples=40)
def test_state_saved_between_two_batches_resumes_exactly_there(number, delivered, world_size):
    place = {"rank": world_size - 1, "world_size": world_size}
    whole = loader(100, 16, **place)
    delivered = min(delivered, len(whole) - 1)
    stopped = loader(100, 16, **place)
    stopped.set_epoch(number)
    reading = iter(stopped)
    before = [next(reading) for _ in range(delivered)]
    state = stopped.state_dict()

    resumed = loader(100, 16, **place)
    resumed.load_state_dict(state)
    rest = epoch(resumed, number)
    expected = epoch(whole, number)
    assert [(batch.number, indices(batch.images)) for batch in before] + rest == expected
    assert epoch(resumed, number + 1) == epoch(whole, number + 1)  # the epoch after is whole again


def test_resuming_works_however_lightning_orders_its_calls():
    expected = epoch(loader(), 2)[4:]
    state = {"epoch": 2, "position": 4, "batches": len(loader())}
    early = loader()
    early.set_epoch(2)
    reading = iter(early)  # iter, then the state
    early.load_state_dict(state)
    assert [(batch.number, indices(batch.images)) for batch in reading] == expected


def test_state_is_plain_and_counts_delivered_batches():
    stopped = loader()
    reading = iter(stopped)
    stopped.set_epoch(1)
    for position in range(1, 4):
        next(reading)
        assert stopped.state_dict() == {"epoch": 1, "position": position, "batches": len(stopped)}


def test_state_saved_at_the_end_of_an_epoch_starts_the_next_one_afresh():
    finished = loader()
    epoch(finished, 0)
    state = finished.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    assert epoch(resumed, 1) == epoch(loader(), 1)


def test_state_of_another_epoch_is_not_carried_over():
    resumed = loader()
    resumed.load_state_dict({"epoch": 0, "position": 3, "batches": len(loader())})
    assert epoch(resumed, 1) == epoch(loader(), 1)
    assert epoch(resumed, 0) == epoch(loader(), 0)


def test_state_can_be_saved_again_before_the_first_batch():
    resumed = loader()
    resumed.load_state_dict({"epoch": 2, "position": 4, "batches": len(loader())})
    resumed.set_epoch(2)
    assert resumed.state_dict() == {"epoch": 2, "position": 4, "batches": len(loader())}


def test_batch_larger_than_the_share_is_cut_down():
    small = loader(10, 128, rank=1, world_size=3)
    assert small.batch_size == 3
    assert len(small) == 1


def test_fewer_images_than_processes_are_refused():
    with pytest.raises(UsageError, match="2 training images for 3 processes"):
        loader(2, 8, world_size=3)
    with pytest.raises(UsageError, match="2 images of split val for 3 processes"):
        EvaluationLoader(Numbers(2), batch_size=8, world_size=3)


class Numbers:
    """Stands in for evaluation pairs: image i is the number i."""

    split = "val"

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, span: slice) -> list[int]:
        assert span.step is None
        return list(range(self.count))[span]


@given(st.integers(1, 500), st.integers(1, 100), st.integers(1, 4))
@settings(deadline=None, max_examples=200)
def test_evaluation_takes_every_pair_once_in_equally_many_batches(count, batch_size, world_size):
    assume(count >= world_size)
    seen: list[int] = []
    lengths = set()
    for rank in range(world_size):
        share = EvaluationLoader(Numbers(count), batch_size=batch_size, rank=rank, world_size=world_size)
        batches = [batch.pairs for batch in share]
        assert len(batches) == len(share)
        assert [batch.pairs for batch in share] == batches  # as often as it is asked
        lengths.add(len(share))
        assert max(map(len, batches)) <= max(batch_size, 2 if count % world_size else 1)
        assert min(map(len, batches)) > 0  # not every network takes no images
        seen += [index for batch in batches for index in batch]
    assert seen == list(range(count))
    assert len(lengths) == 1
    assert lengths.pop() == min(math.ceil(math.ceil(count / world_size) / batch_size), count // world_size)


def test_evaluation_batches_of_one_process_are_in_order_and_of_almost_one_size():
    batches = [batch.pairs for batch in EvaluationLoader(Numbers(1000), batch_size=128)]
    assert len(batches) == 8
    assert all(one[-1] + 1 == two[0] for one, two in pairwise(batches))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_an_epoch_begun_by_other_processes_is_not_continued():
    alone = loader(100, 10)
    state = {"epoch": 1, "position": 3, "batches": len(alone)}
    with pytest.raises(UsageError, match="as many processes"):
        loader(100, 10, rank=0, world_size=2).load_state_dict(state)
    loader(100, 10, rank=0, world_size=2).load_state_dict(state | {"position": len(alone)})
