"""The same work on many blocks, a thread for each core."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.evaluation.measure import block_size
from deblur.evaluation.workers import side_by_side


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_in_the_order_of_the_items(workers):
    assert list(side_by_side(lambda number: number**2, range(20), workers)) == [number**2 for number in range(20)]


def test_workers_share_the_cores_and_leave_this_threads_as_they_were(four_threads):
    threads = set(side_by_side(lambda _: torch.get_num_threads(), range(6), 2))
    assert threads == {2}
    assert torch.get_num_threads() == 4
    assert set(side_by_side(lambda _: torch.get_num_threads(), range(2), 1)) == {4}


def test_so_many_work_at_once():
    meet = threading.Barrier(3, timeout=20)  # broken, an error, unless three are there
    assert len(list(side_by_side(lambda _: meet.wait(), range(6), 3))) == 6


def test_items_are_taken_only_when_there_is_a_worker_for_them():
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    results = side_by_side(lambda number: number, items(), 2)
    assert next(results) == 0
    assert len(taken) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller(workers, four_threads):
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda number: 1 // (number - 3), range(6), workers))
    assert torch.get_num_threads() == 4


@given(st.integers(1, 30_000), st.integers(1, 512))
@settings(deadline=None, max_examples=200)
def test_blocks_hold_all_images_and_give_threads_equal_shares(count, most):
    size = block_size(count, most)
    assert 1 <= size <= most
    for threads in (2, 4, 8):
        shares = [0] * threads
        for number, start in enumerate(range(0, count, size)):
            shares[number % threads] += min(size, count - start)
        assert sum(shares) == count
        assert count < 5_000 or max(shares) <= 1.05 * count / threads
    assert block_size(10_000, 256) == 250  # not 39 blocks of 256 and one of 16, which leaves a thread of two idle
