"""The jobs of a sweep side by side on one machine, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

import torch

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

Job = Callable[[str, int], int]


def run_side_by_side(job: Job, names: Sequence[str], at_once: int, ended: Callable[[str, int], None]) -> int | None:
    """Run job(name, place) for each name in a process of its own; returns the signal that ended it early, or None.

    A process starts as a copy of this one (it need not import torch again) where that is safe: on Linux, without a GPU.
    It fails alone: one that is killed, by the system for want of memory say, leaves the others as they are. SIGTERM,
    SIGUSR1 and Ctrl-C are handed on to those that run, which save, and start no more; so does the end of this process.

    Args:
        job: called with a name and a place, 0 to at_once - 1, that no other job has at the time; returns its exit code.
        names: of the jobs, in the order in which they start.
        at_once: processes at one time.
        ended: called here with the name and exit code of each job that has ended; the code is -n where signal n killed
            it, and 128 + n where it was told to stop before it could listen.
    """
    forks = sys.platform == "linux" and not torch.cuda.is_available()
    context = multiprocessing.get_context("fork" if forks else "spawn")
    if not forks:
        resource_tracker.ensure_running()  # else the first process starts it, which lets the signals through again
    waiting, running = list(names), {}
    with _heard() as (told, news):
        try:
            while running or (waiting and not told):
                while waiting and len(running) < at_once and not told:
                    place = min(set(range(at_once)) - {place for _, _, place in running.values()})
                    name = waiting.pop(0)
                    process = context.Process(target=_run, args=(job, name, place), name=name)
                    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the process has its handlers
                    try:
                        process.start()
                    finally:
                        signal.pthread_sigmask(signal.SIG_SETMASK, before)
                    running[process.sentinel] = (name, process, place)
                for ready in wait([news, *running]):
                    if ready is news:
                        _tell(running, news.recv())
                    else:
                        name, process, _ = running.pop(ready)
                        process.join()
                        ended(name, process.exitcode)
        finally:  # after an error of this process alone
            _tell(running, signal.SIGTERM)
            for _, process, _ in running.values():
                process.join()
    return told[0] if told else None


def _tell(running: Mapping[int, tuple[str, BaseProcess, int]], number: int) -> None:
    for _, process, _ in running.values():
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process.pid, number)


def _run(job: Job, name: str, place: int) -> None:
    os.setpgid(0, 0)  # Ctrl-C on the terminal reaches the first process alone, which hands it on once
    for number in _SIGNALS:
        signal.signal(number, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # blocked where this process was started
    parent = multiprocessing.parent_process().pid

    def follow() -> None:
        while os.getppid() == parent:  # what its end would close, later processes have copies of
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    code = job(name, place)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what this process inherited, the first one will close


def _leave(number: int, frame: FrameType | None) -> None:
    """What a signal does before and after a job has handlers of its own, when there is nothing to save."""
    os._exit(128 + number)


@contextmanager
def _heard() -> Iterator[tuple[list[int], Connection]]:
    """Within the block, each such signal is put at the end of the list and sent through the connection.

    It is handed on where the connection is read, not by its handler: that may run, since any other thread may receive
    the signal, after a process has started and before it is known to run.
    """
    told: list[int] = []
    news, send = multiprocessing.Pipe(duplex=False)

    def hear(number: int, frame: FrameType | None) -> None:
        told.append(number)
        send.send(number)

    before = {number: signal.signal(number, hear) for number in _SIGNALS}
    try:
        yield told, news
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        news.close()
        send.close()
