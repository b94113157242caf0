"""Jobs in processes of their own: as many at once as asked, each fails alone, all are told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from deblur.processes import run_side_by_side
from tests.conftest import ROOT, copied

NAMES = [f"job{number}" for number in range(5)]


def write_pid(name: str, place: int) -> int:
    """A job that a process that starts anew can import."""
    Path(name).write_text(str(os.getpid()))
    return place


def test_a_process_that_starts_anew_runs_its_job(tmp_path, ended, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert run_side_by_side(write_pid, NAMES[:1], 1, ended) is None
    assert ended == {"job0": 0}
    assert int((tmp_path / "job0").read_text()) != os.getpid()


@pytest.fixture
def ended() -> dict[str, int]:
    """What `run_side_by_side` told of jobs that ended: exit codes by name."""

    class Ended(dict):
        def __call__(self, name: str, code: int) -> None:
            self[name] = code

    return Ended()


@copied
def test_jobs_run_once_each_never_more_than_asked_and_in_places_of_their_own(tmp_path, ended):
    def job(name: str, place: int) -> int:
        mine = tmp_path / f"at-{place}"
        mine.mkdir()  # fails if another job has this place
        time.sleep(0.05)
        (tmp_path / name).write_text(str(os.getpid()))
        mine.rmdir()
        return NAMES.index(name)

    assert run_side_by_side(job, NAMES, 2, ended) is None
    assert ended == {name: number for number, name in enumerate(NAMES)}
    pids = {(tmp_path / name).read_text() for name in NAMES}
    assert len(pids) == 5
    assert str(os.getpid()) not in pids


@copied
def test_two_jobs_run_at_the_same_time(tmp_path, ended):
    def job(name: str, place: int) -> int:
        (tmp_path / name).touch()
        until = time.monotonic() + 20
        while not all((tmp_path / other).exists() for other in NAMES[:2]):
            if time.monotonic() > until:
                return 1
            time.sleep(0.01)
        return 0

    run_side_by_side(job, NAMES[:2], 2, ended)
    assert ended == {"job0": 0, "job1": 0}


@copied
def test_a_job_that_is_told_to_stop_before_it_listens_says_which_signal_it_was(ended):
    def job(name: str, place: int) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        return 0

    assert run_side_by_side(job, NAMES[:1], 1, ended) is None
    assert ended == {"job0": 143}


@copied
def test_a_signal_as_a_job_ends_reaches_the_others(tmp_path, monkeypatch):
    """Starting a process reaps those that have ended: their numbers are nobody's by the time that all are told."""
    found: dict[str, int] = {}

    def job(name: str, place: int) -> int:
        if name in ("job0", "job1"):
            return 0
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(3))
        (tmp_path / name).touch()
        time.sleep(20)
        return 0

    def ended(name: str, code: int) -> None:
        found[name] = code
        if name == "job0":
            time.sleep(0.5)  # job1 ends

    start = BaseProcess.start

    def slow(process: BaseProcess) -> None:
        start(process)
        if process.name == "job2":
            _wait_for(tmp_path / "job2")
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(BaseProcess, "start", slow)
    assert run_side_by_side(job, NAMES[:3], 2, ended) == signal.SIGTERM
    assert found == {"job0": 0, "job1": 0, "job2": 3}


@copied
def test_after_an_error_of_this_process_the_jobs_are_told_and_waited_for(tmp_path):
    def job(name: str, place: int) -> int:
        if name == "job0":
            _wait_for(tmp_path / "job1")
            return 0
        signal.signal(signal.SIGTERM, lambda number, frame: ((tmp_path / "told").touch(), os._exit(3)))
        (tmp_path / name).touch()
        time.sleep(20)
        return 0

    def fail(name: str, code: int) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        run_side_by_side(job, NAMES[:2], 2, fail)
    assert (tmp_path / "told").exists()


@copied
def test_a_job_that_is_killed_fails_alone(ended):
    def job(name: str, place: int) -> int:
        if name == "job1":
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert run_side_by_side(job, NAMES, 2, ended) is None
    assert ended == {name: -9 if name == "job1" else 0 for name in NAMES}


@copied
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_that_run_and_no_more_start(tmp_path, ended, number):
    def job(name: str, place: int) -> int:
        def stop(got: int, frame: object) -> None:
            os._exit(128 + got)

        signal.signal(number, stop)
        (tmp_path / name).touch()
        time.sleep(20)
        return 0

    def tell() -> None:
        while not all((tmp_path / name).exists() for name in NAMES[:2]):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=tell)
    thread.start()
    assert run_side_by_side(job, NAMES, 2, ended) == number
    thread.join()
    assert ended == {"job0": 128 + number, "job1": 128 + number}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@copied
def test_a_signal_to_another_thread_reaches_a_job_that_has_just_started(tmp_path, ended, monkeypatch):
    """The threads of libraries block no signals: the handler can run before the start of a process has returned."""
    start = BaseProcess.start

    def slow(process: BaseProcess) -> None:
        start(process)
        until = time.monotonic() + 20
        while not (tmp_path / "sent").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)

    def job(name: str, place: int) -> int:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(3))
        os.kill(os.getppid(), signal.SIGTERM)
        (tmp_path / "sent").touch()
        time.sleep(20)
        return 0

    monkeypatch.setattr(BaseProcess, "start", slow)
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        assert run_side_by_side(job, NAMES, 2, ended) == signal.SIGTERM
    finally:
        release.set()
        thread.join()
    assert ended == {"job0": 3}


def test_jobs_are_told_to_stop_when_their_starter_is_killed(tmp_path):
    script = tmp_path / "starter.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "from deblur.processes import run_side_by_side\n"
        "def job(name, place):\n"
        "    def stop(number, frame):\n"
        "        time.sleep(3 * (name == 'two'))\n"
        "        pathlib.Path(f'{name}-stopped').touch()\n"
        "        sys.exit(1)\n"
        "    signal.signal(signal.SIGTERM, stop)\n"
        "    pathlib.Path(f'{name}-started').touch()\n"
        "    time.sleep(20)\n"
        "if __name__ == '__main__':\n"
        "    run_side_by_side(job, ['one', 'two'], 2, print)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env=environment)
    for name in ("one", "two"):
        _wait_for(tmp_path / f"{name}-started")
    starter.kill()
    starter.wait()
    _wait_for(tmp_path / "one-stopped")
    assert not (tmp_path / "two-stopped").exists()  # which takes its time, and keeps no other from hearing
    _wait_for(tmp_path / "two-stopped")


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.02)
