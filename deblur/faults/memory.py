"""Memory, open files and event files of a long training, epoch by epoch, looked at from outside."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from deblur.faults.row import Row, Setting
from deblur.faults.tiny import TINY, shell_command, shell_environment

_WARM_UP = 0.1  # of the epochs, in which caches fill
_GROWTH = 0.02  # most, of the memory
_EVENTS = 60_000  # most bytes that an epoch may add to the event file: its scalars and one picture
_SETTINGS = ("data.batch_size=100", "scheduler=none", "checkpoint.every_minutes=0.01")


def run(setting: Setting) -> list[Row]:
    """Train `count` epochs and look on."""
    names = ("memory grows by less than 2 %", "no more open files", "event files stay bounded")
    row = Row(f"a training of {setting.count} epochs", "; ".join(names))
    if not Path("/proc/self/statm").exists():
        row.details["left out"] = "there is no /proc on this system"
        return [row]
    points, code = watch(setting)
    if code or len(points) < setting.count:
        row.note(names[0], f"exit code {code} after {len(points)} epochs")
        return [row]
    warm = points[int(_WARM_UP * len(points)) :]
    part = max(1, len(warm) // 10)
    (begin_memory, begin_files, begin_events), (memory, files, events) = (
        [mean(point[key] for point in some) for key in ("memory", "files", "events")]
        for some in (warm[:part], warm[-part:])
    )
    growth, an_epoch = memory / begin_memory - 1, (events - begin_events) / max(len(warm) - part, 1)
    row.note(names[0], None if growth < _GROWTH else f"grows by {growth:.1%}")
    row.note(names[1], None if files <= begin_files else f"from {begin_files:.1f} to {files:.1f}")
    row.note(names[2], None if an_epoch < _EVENTS else f"{an_epoch:.0f} bytes an epoch")
    row.details = {
        "memory, MB": [round(begin_memory, 1), round(memory, 1)],
        "growth, %": round(100 * growth, 2),
        "open files": [round(begin_files, 1), round(files, 1)],
        "event bytes an epoch": round(an_epoch),
        "points": points,
    }
    return [row]


def draw(points: list[dict[str, float]]) -> Figure:
    """Memory, open files and size of the event files over the epochs."""
    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    epochs = range(1, len(points) + 1)
    labels = {"memory": "resident memory, MB", "files": "open files", "events": "event files, kB"}
    for axis, (key, label) in zip(figure.subplots(3, sharex=True), labels.items(), strict=True):
        values = [point[key] / (1000 if key == "events" else 1) for point in points]
        axis.plot(epochs, values, linewidth=1.2)
        axis.set_ylim(0, 1.15 * max(values) or 1)
        axis.set_ylabel(label, fontsize=8)
        axis.grid(alpha=0.3)
        axis.axvspan(0, _WARM_UP * len(points), color="0.93", zorder=0)
    axis.set_xlabel("epoch (grey: warming up, which does not count)")
    return figure


def watch(setting: Setting) -> tuple[list[dict[str, float]], int]:
    """What each epoch's end sees, and the exit code."""
    process = subprocess.Popen(
        shell_command(*TINY, *_SETTINGS, f"trainer.max_epochs={setting.count}"),
        cwd=setting.folder,
        env=shell_environment(setting.data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    points: list[dict[str, float]] = []
    last = time.monotonic()
    for line in process.stderr:
        if line.startswith("epoch "):
            points.append(_look(process.pid, setting.folder))
            if time.monotonic() - last > 1:
                last = time.monotonic()
                setting.say(f"memory: {line.partition('  ')[0]}")
    return points, process.wait()


def _look(process: int, folder: Path) -> dict[str, float]:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{process}/fd"))
    except OSError:  # it has just ended
        pages = files = 0
    events = sum(file.stat().st_size for file in folder.rglob("events.out.tfevents.*"))
    return {"memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20, "files": files, "events": events}
