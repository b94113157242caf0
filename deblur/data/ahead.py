"""What takes long to make is made by threads, ahead of who waits for it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = "ahead"  # how the names of the threads begin
_MOST_THREADS = 16

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(
    make: Callable[[Item], Made],
    items: Iterable[Item],
    *,
    most: int,
    threads: int,
    begin: Callable[[], object] | None = None,
) -> Iterator[Made]:
    """What `make` returns for each item, in their order, as `map` does; an error comes where its item would.

    The threads end with the iterator: at its end, at an error, and when it is closed or no longer referred to.

    Args:
        make: called by several threads at once.
        items: read by the caller's thread.
        most: how many items may be begun before they are asked for.
        threads: how many there are.
        begin: what each of them does first.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREADS, initializer=begin)
    begun: deque[Future[Made]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(make, item))
            if len(begun) > most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def spare_threads() -> int:
    """How many threads may decode beside the one that trains: one for each other core that this process may use."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, min(_MOST_THREADS, len(usable) - 1))
