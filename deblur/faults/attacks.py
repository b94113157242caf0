"""Files that others have made to do harm: each must run no code, read no secret, write nothing outside its folder.

A run folder is made, one attack is put into it, and it is used in every way that it concerns: loaded, resumed, taken
as `init`, published, evaluated; a sweep is summarised, PSFs are read. A try is harmless if the program that the attack
names did not run, the word in the environment that it asks for stands in no file and no message, nothing outside of
the folder changed, little memory was taken, and it ended in one line or as if nothing were wrong. An attack that
changes nothing of the run is none, and no harmless one. In place of downloads, files are made where they would come to.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

import deblur
from deblur.data import download
from deblur.errors import ArgumentError, UsageError
from deblur.faults.hostile import ATTACKS, SECRET, VARIABLE, Attack, NotPlanted, replaced
from deblur.faults.row import Row, Setting
from deblur.faults.tiny import Ended, call_door, trained_run
from deblur.training.weights import read_weights

_SECONDS = 30.0  # most of one use, of the processor
_MEGABYTES = 400  # most that it may add


def run(setting: Setting) -> list[Row]:
    """Try every attack."""
    rows: dict[str, Row] = {}
    whole = trained_run(setting.folder / "whole", setting.data)
    for number, attack in enumerate(ATTACKS):
        setting.say(f"attacks: {number + 1} of {len(ATTACKS)}, {attack.name}")
        row = rows.setdefault(
            attack.kind, Row(f"attacks: {attack.kind}", "no code run, no secret read, nothing written")
        )
        row.note(attack.name, try_attack(attack, whole, setting.folder / f"attack-{number:02d}", setting.data))
    return list(rows.values())


def try_attack(attack: Attack, whole: Path, folder: Path, data: Path) -> str | None:
    """What harm the attack did, or None.

    Args:
        attack: to try.
        whole: a run, of which a copy is attacked.
        folder: for it; made.
        data: root of the digits.
    """
    outside, victim = folder / "outside", folder / "theirs" / "run"
    outside.mkdir(parents=True)
    (outside / "precious.txt").write_text(SECRET)
    victim.parent.mkdir()
    shutil.copytree(whole, victim)
    if attack.unfinished:
        results = (victim / "results.json").read_text()
        (victim / "results.json").write_text(replaced(results, '"finished"', '"running"'))
    sound = _content(victim.parent)
    try:
        attack.plant(victim, outside)
    except NotPlanted as error:
        return f"was not planted: {error}"
    if _content(victim.parent) == sound:
        return "was not planted: nothing changed"
    before = _content(outside)
    with patch.dict(os.environ, {VARIABLE: SECRET}), patch.object(download, "download_idx", _as_if_downloaded):
        for name in attack.uses:
            peak = _memory()
            started = time.process_time()
            with _most_memory() as most:
                said = USES[name](victim, folder, data)
            if isinstance(said, str):
                return f"{name}: {said}"
            if time.process_time() - started > _SECONDS:
                return f"{name}: took {time.process_time() - started:.0f} s"
            if most[0] - peak > _MEGABYTES:
                return f"{name}: took {most[0] - peak:.0f} MB"
            if SECRET in said.out + said.err:
                return f"{name}: shows the secret"
            if _content(outside) != before:
                return f"{name}: changed what lies outside of its folder"
    for file in (path for path in victim.rglob("*") if path.is_file() and not path.is_symlink()):
        if SECRET.encode() in file.read_bytes() and file.suffix != ".txt":
            return f"the secret stands in {file.name}"
    return None


def _load(victim: Path, folder: Path, data: Path) -> Ended | str:
    try:
        deblur.load(victim)
    except (UsageError, ArgumentError) as error:
        return Ended(2, "", f"error: {error}") if "\n" not in str(error) else f"several lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return Ended(0, "", "")


def _weights(victim: Path, folder: Path, data: Path) -> Ended | str:
    try:
        for name in ("best.ckpt", "last.ckpt"):
            state = read_weights(victim / "checkpoints" / name).state
            if not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
                return "weights that are no tensors"
    except UsageError as error:
        return Ended(2, "", f"error: {error}")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return Ended(0, "", "")


def _door(*arguments: str, way: tuple[str, str]) -> Callable[[Path, Path, Path], Ended | str]:
    def use(victim: Path, folder: Path, data: Path) -> Ended | str:
        filled = [argument.format(run=victim, sweep=victim.parent, out=folder / "out") for argument in arguments]
        try:
            ended = call_door(folder, data, *filled, way=way)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        lines = [line for line in ended.err.splitlines() if line.startswith(("error:", "Traceback"))]
        if "Traceback" in ended.err or (ended.code == 2 and len(lines) != 1):
            return f"exit code {ended.code}: {ended.err.strip()[-300:]}"
        return ended

    return use


def _summary(victim: Path, folder: Path, data: Path) -> Ended | str:
    from deblur.sweep import main

    with _captured() as streams:
        try:
            code = main([str(victim.parent)])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return Ended(code, *(stream.getvalue() for stream in streams))


_TRAIN, _PUBLISH = ("train", "deblur.training.train:train"), ("publish", "deblur.training.publish:publish")
_EVALUATE = ("evaluate", "deblur.evaluation.evaluate:evaluate")
_SHORT = ("model=cnn", "model.width=8", "model.depth=2", "data.val_size=40", "trainer=cpu", "trainer.max_epochs=1")
USES: dict[str, Callable[[Path, Path, Path], Ended | str]] = {
    "load": _load,
    "weights": _weights,
    "resume": _door("resume={run}", "trainer.max_epochs=3", way=_TRAIN),
    "init": _door(*_SHORT, "init={run}", "output_root={out}", "trainer.limit_train_batches=1", way=_TRAIN),
    "publish": _door("run={run}", "output={out}/published", way=_PUBLISH),
    "evaluate": _door("run={run}", "images=8", "accelerator=cpu", "output={out}/report", way=_EVALUATE),
    "psfs": _door("blur=kernels", "blur.path={run}/psfs.npy", *_SHORT, "output_root={out}", way=_TRAIN),
    "summary": _summary,
}


def _content(folder: Path) -> dict[str, bytes]:
    """What is in each file, and where each link leads to."""
    content = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            content[str(path)] = os.fsencode(path.readlink())
        elif path.is_file():
            content[str(path)] = path.read_bytes()
    return content


def _as_if_downloaded(dataset: type, root: Path) -> bool:
    """What a download does to the folders, without a network."""
    folder = root / dataset.__name__ / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "downloaded").touch()
    return False


def _memory() -> float:
    """Megabytes that this process holds now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0  # no Linux


@contextmanager
def _most_memory() -> Iterator[list[float]]:
    """Within the block, the most megabytes that this process holds, in the list."""
    most, over = [_memory()], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], _memory())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


@contextmanager
def _captured() -> Iterator[tuple]:
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch.object(sys, "argv", ["sweep"]):
        yield out, err
