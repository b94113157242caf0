"""The same work on many blocks of images, a thread for each core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import torch

from deblur.data.ahead import ahead

Item, Result = TypeVar("Item"), TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """work(item) of each item, in order, by so many threads at once that share this one's cores.

    Small images keep cores busier that way than when all of them work on each operation of one batch: between any two
    operations the faster ones wait. No more items are taken than there are workers to do them, and one more.

    Args:
        work: called in other threads unless there is one worker; inference mode is a thread's own.
        items: taken one by one, in this thread.
        workers: how many threads.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    threads = torch.get_num_threads()
    share = partial(torch.set_num_threads, max(1, threads // workers))
    share()  # this thread makes the items while the others work
    try:
        yield from ahead(work, items, most=workers, threads=workers, begin=share)
    finally:
        torch.set_num_threads(threads)
