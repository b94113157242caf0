"""Trainings killed at random moments (SIGKILL), resumed, and compared with one that was left alone."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from deblur.faults.row import Row, Setting
from deblur.faults.tiny import TINY, only_run, shell_command, shell_environment

# A checkpoint after every step, and a validation with its picture after every tenth.
_LONG = (*TINY, "trainer.max_epochs=12", "data.batch_size=16", "checkpoint.every_minutes=0", "optimizer.lr=0.003")
_PATIENCE = 600  # seconds of one process
_AT_ONCE = 2


def run(setting: Setting) -> list[Row]:
    """Kill `count` trainings, half of them a second time while they are resumed."""
    row = Row("trainings killed at a random moment", "resumed, and equal bit for bit to the one left alone")
    setting.say("kill: the training that is left alone")
    started = time.monotonic()
    code, err = _end(_start(setting, "whole"))
    if code:
        row.note("the training that is left alone", f"exit code {code}: {err[-300:]}")
        return [row]
    whole = only_run(setting.folder / "whole")
    begun = (whole / "config.yaml").stat().st_mtime
    seconds = max((whole / "results.json").stat().st_mtime - begun, 0.1)
    row.details |= {"seconds of the whole": round(time.monotonic() - started, 1), "moments": {}}
    draws = random.Random(setting.seed)
    plans = [(number, draws.random() * seconds, draws.random() * seconds) for number in range(setting.count)]

    def one(plan: tuple[int, float, float]) -> tuple[str, str | None, list[str]]:
        number, first, second = plan
        name = f"kill-{number:03d}"
        moments = [_kill(setting, _start(setting, name), setting.folder / name, first)]
        if number % 2 and _run_in(setting.folder / name) is not None:
            moments.append(_kill(setting, _resume(setting, name), setting.folder / name, second))
        failure = _compare(setting, name, whole)
        setting.say(f"kill: {number + 1} of {setting.count}")
        if failure is None:
            shutil.rmtree(setting.folder / name)
        return name, failure, moments

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for name, failure, moments in pool.map(one, plans):
            row.note(name, failure)
            for moment in moments:
                row.details["moments"][moment] = row.details["moments"].get(moment, 0) + 1
    return [row]


def _start(setting: Setting, name: str) -> subprocess.Popen:
    return _process(setting, *_LONG, f"output_root={setting.folder / name}")


def _resume(setting: Setting, name: str) -> subprocess.Popen:
    return _process(setting, f"resume={_run_in(setting.folder / name)}")


def _process(setting: Setting, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        shell_command(*arguments),
        cwd=setting.folder,
        env=shell_environment(setting.data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process: subprocess.Popen) -> tuple[int, str]:
    """The exit code and the messages; of a process that hangs, which is killed, too."""
    try:
        _, err = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -9, f"took more than {_PATIENCE} s"
    return process.returncode, err


def _run_in(folder: Path) -> Path | None:
    found = list(folder.glob("*/*/results.json"))
    return found[0].parent if found else None


def _kill(setting: Setting, process: subprocess.Popen, folder: Path, after: float) -> str:
    """Kill the process so many seconds after it began to write; returns in what it was interrupted."""
    mark, deadline = time.time(), time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        found = _run_in(folder)
        if found is not None and (found / "results.json").stat().st_mtime >= mark:
            break
        time.sleep(0.01)
    time.sleep(after)
    process.kill()
    process.wait()
    process.stderr.close()
    return _moment(_run_in(folder))


def _moment(run: Path | None) -> str:
    if run is None:
        return "before the folder"
    if json.loads((run / "results.json").read_text())["status"] == "finished":
        return "after the end"
    if any(file.name.startswith(".") for file in (run / "checkpoints").iterdir()):
        return "a checkpoint half written"
    log = (run / "train.log").read_text() if (run / "train.log").is_file() else ""
    if "epoch 12/12" in log.rpartition("(continued)")[2]:
        return "test or figures"
    return "training or validation" if "epoch" in log else "the first epoch"


def _compare(setting: Setting, name: str, whole: Path) -> str | None:
    """What is not well with a killed run once it is resumed, or None."""
    if _run_in(setting.folder / name) is None:
        code, err = _end(_start(setting, name))
    else:
        code, err = _end(_resume(setting, name))
    if code != 0 or "Traceback" in err:
        return f"exit code {code}: {err.strip()[-300:]}"
    run = only_run(setting.folder / name)
    for file in ("last.ckpt", "best.ckpt"):
        mine, theirs = (torch.load(r / "checkpoints" / file, weights_only=True) for r in (run, whole))
        if not _equal(mine["state_dict"], theirs["state_dict"]):
            return f"{file} has other weights"
        if not _equal(mine["optimizer_states"], theirs["optimizer_states"]):
            return f"{file} has another state of the optimiser"
    mine, theirs = (json.loads((r / "results.json").read_text()) for r in (run, whole))
    if mine["status"] != "finished" or mine["metrics"] != theirs["metrics"]:
        return f"{mine['status']}, with other metrics"
    left = [file.name for file in (run / "checkpoints").iterdir() if file.name.startswith(".")]
    missing = [file.name for file in (whole / "figures").iterdir() if not (run / "figures" / file.name).is_file()]
    if left or missing:
        return f"left behind: {', '.join(left)}; missing: {', '.join(missing)}"
    return None


def _equal(one: object, other: object) -> bool:
    """Whether two values of plain containers and tensors are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other
