"""Many at once: processes told to use one run, and many that start in the same second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from deblur.faults.row import Row, Setting
from deblur.faults.tiny import TINY, only_run, shell_command, shell_environment
from deblur.training.run import Run

_AT_ONCE = 20
_PATIENCE = 300.0  # seconds of one process


def run(setting: Setting) -> list[Row]:
    """Two for one run; twenty new ones; signals."""
    return [two_for_one(setting), twenty(setting), signals(setting)]


def two_for_one(setting: Setting) -> Row:
    """A training, and a second process that wants its run."""
    row = Row(
        "a second process told to use a run that is being trained",
        "refused in one line; let in once the first is killed",
    )
    setting.say("crowd: two processes for one run")
    folder = setting.folder / "one"
    folder.mkdir()
    first = _training(setting, folder)
    try:
        run_folder = _wait_for(folder, "checkpoints/last.ckpt")
        second = subprocess.run(
            shell_command(f"resume={run_folder}"),
            cwd=folder,
            env=shell_environment(setting.data),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        alive = first.poll() is None
    finally:
        first.kill()
        first.communicate()
    lines = second.stderr.strip().splitlines()
    refused = alive and second.returncode == 2 and len(lines) == 1 and "another process" in lines[0]
    row.note("while the first lives", None if refused else f"exit code {second.returncode}: {second.stderr[-300:]}")
    state = Run(run_folder).state()
    row.note("its lock after kill -9", None if state == "interrupted" else f"the run is {state}")
    return row


def twenty(setting: Setting, at_once: int = _AT_ONCE) -> Row:
    """Processes that make a run folder of the same name at the same moment."""
    row = Row("runs started in the same second", "each has a folder of its own")
    setting.say(f"crowd: {at_once} runs at once")
    root = setting.folder / "twenty"
    barrier = setting.folder / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(barrier)!r}): time.sleep(0.001)\n"
    script = "from pathlib import Path\nfrom deblur.training.run import Run\n" + wait
    script += f"print(Run.create(Path({str(root)!r}), 'the same second').path)"
    command = [shell_command()[0], "-c", script]
    started = [
        subprocess.Popen(command, env=shell_environment(setting.data), stdout=subprocess.PIPE, text=True)
        for _ in range(at_once)
    ]
    time.sleep(1.0)
    barrier.touch()
    paths = [process.communicate(timeout=_PATIENCE)[0].strip() for process in started]
    for number, path in enumerate(paths):
        own = path and paths.count(path) == 1 and (Path(path) / "checkpoints").is_dir()
        row.note(f"run {number}", None if own else f"has {path!r}")
    return row


def signals(setting: Setting) -> Row:
    """Trainings that are sent Ctrl-C, SIGTERM, and, under SLURM, SIGUSR1."""
    row = Row("trainings told to stop", "saved, exit code 128 + the signal, the command that resumes as the last line")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        name = signal.Signals(number).name
        setting.say(f"crowd: {name}")
        folder = setting.folder / name
        folder.mkdir()
        environment = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1"} if number == signal.SIGUSR1 else {}
        process = _training(setting, folder, environment)
        try:
            _wait_for(folder, "checkpoints/last.ckpt")
            os.kill(process.pid, number)
            _, err = process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
        run_folder = only_run(folder)
        status = json.loads((run_folder / "results.json").read_text())["status"]
        last = (err.strip().splitlines() or [""])[-1]
        good = process.returncode == 128 + number and f"resume={run_folder.relative_to(folder)}" in last
        row.note(name, None if good and status == "interrupted" else f"{process.returncode}, {status}: {err[-300:]}")
    return row


def _training(setting: Setting, folder: Path, environment: dict[str, str] | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        shell_command(*TINY, "trainer.max_epochs=100000", "checkpoint.every_minutes=0"),
        cwd=folder,
        env=shell_environment(setting.data) | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for(folder: Path, name: str, seconds: float = _PATIENCE) -> Path:
    """The folder of the run under a folder, once it has this file."""
    deadline = time.monotonic() + seconds
    while not (found := list(folder.glob(f"outputs/*/*/{name}"))):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder}: no {name} after {seconds:g} s")
        time.sleep(0.05)
    return found[0].parents[len(Path(name).parts) - 1]
