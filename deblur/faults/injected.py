"""Faults put into a training on purpose: a disk that fills, memory that ends, numbers that go wrong."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from deblur.errors import UsageError
from deblur.faults.row import Row, Setting
from deblur.faults.tiny import (
    TINY,
    call_door,
    is_one_line,
    only_run,
    shell_command,
    shell_environment,
    trained_run,
)
from deblur.training.checkpoint import read_checkpoint
from deblur.training.module import DeblurModule

_OFTEN = "checkpoint.every_minutes=0.0001"


def run(setting: Setting) -> list[Row]:
    """Try every fault once."""
    rows = [
        Row(
            "faults of disk and memory while training", "one clear line, exit code 1, a whole checkpoint, results.json"
        ),
        Row("a file size limit of the system, in a process of its own", "the same"),
        Row("numbers gone wrong", "skipped, or stopped after the patience; no checkpoint that is not finite"),
        Row("damaged files of one's own run", "resumed from what is whole, or refused in one line"),
    ]
    trials: list[tuple[Row, str, Callable[[Path], str | None]]] = []
    for name, (fault, said) in FAULTS.items():
        trials.append((rows[0], name, lambda folder, f=fault, s=said: try_fault(f, s, folder, setting.data)))
    for kilobytes in (2, 8, 32):
        trials.append((rows[1], f"{kilobytes} kB", lambda folder, k=kilobytes: _limited(k, folder, setting.data)))
    for name, (what, steps, code, said) in WRONG_NUMBERS.items():
        trials.append(
            (
                rows[2],
                name,
                lambda folder, w=what, n=steps, c=code, s=said: try_numbers(w, n, c, s, folder, setting.data),
            )
        )
    whole = trained_run(setting.folder / "whole", setting.data)
    for name, (damage, code, said) in DAMAGES.items():
        trials.append(
            (rows[3], name, lambda folder, d=damage, c=code, s=said: try_damage(d, c, s, whole, folder, setting.data))
        )
    for number, (row, name, trial) in enumerate(trials):
        setting.say(f"faults: {number + 1} of {len(trials)}, {name}")
        folder = setting.folder / f"fault-{number:02d}"
        folder.mkdir(parents=True)
        row.note(name, trial(folder))
    return rows


# ---- Disk and memory.


def _saving(error: Exception) -> Callable[[Path], Iterator[None]]:
    """The third checkpoint fails half written."""

    @contextmanager
    def fault(folder: Path) -> Iterator[None]:
        save, saved = torch.save, []

        def fail(content: object, file: object, *arguments: object) -> None:
            saved.append(file)
            if len(saved) == 3:
                file.write(b"half of it")
                raise error
            save(content, file, *arguments)

        with patch.object(torch, "save", fail):
            yield

    return fault


def _failing(owner: type, name: str, error: Exception, call: int) -> Callable[[Path], Iterator[None]]:
    """That call of a method fails."""

    @contextmanager
    def fault(folder: Path) -> Iterator[None]:
        original, calls = getattr(owner, name), []

        def fail(self: object, *arguments: object, **named: object) -> object:
            calls.append(1)
            if len(calls) == call:
                raise error
            return original(self, *arguments, **named)

        with patch.object(owner, name, fail):
            yield

    return fault


@contextmanager
def _vanishing(folder: Path) -> Iterator[None]:
    def vanish(self: DeblurModule, batch: object, batch_idx: int) -> None:
        if batch_idx == 3:
            shutil.rmtree(only_run(folder))

    with patch.object(DeblurModule, "on_train_batch_start", vanish):
        yield


def _figures(error: Exception) -> Callable[[Path], Iterator[None]]:
    from matplotlib.figure import Figure

    return _failing(Figure, "savefig", error, 2)  # the first is of the blur, before the training


def _system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


_MEMORY = "lower data.batch_size or the sizes of the model"
FAULTS: dict[str, tuple[Callable[[Path], Iterator[None]], str]] = {
    **{
        f"{errno.errorcode[number]} while a checkpoint is written": (_saving(_system(number)), os.strerror(number))
        for number in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ESTALE)
    },
    "a checkpoint that cannot be renamed": (_failing(Path, "replace", _system(errno.EACCES), 8), "Permission denied"),
    "a figure that cannot be written": (_figures(_system(errno.ENOSPC)), "No space left"),
    "the folder vanishes": (_vanishing, "No such file or directory"),
    "memory ends while a checkpoint is written": (_saving(MemoryError()), _MEMORY),
    "memory of the GPU ends in a step": (
        _failing(DeblurModule, "training_step", torch.OutOfMemoryError("CUDA out of memory"), 4),
        _MEMORY,
    ),
    "memory ends in validation": (_failing(DeblurModule, "validation_step", MemoryError(), 2), _MEMORY),
}


def try_fault(fault: Callable[[Path], Iterator[None]], said: str, folder: Path, data: Path) -> str | None:
    """What is not well with how a training with a fault ends, or None.

    Args:
        fault: within its block the training has it.
        said: what the message must say.
        folder: empty.
        data: root of the digits.
    """
    with fault(folder):
        ended = call_door(folder, data, *TINY, _OFTEN)
    return _failed_well(folder, ended.code, ended.err, said)


def _failed_well(folder: Path, code: int, err: str, said: str) -> str | None:
    if code != 1 or "Traceback" in err:
        return f"exit code {code}: {err.strip()[-300:]}"
    lines = [line for line in err.splitlines() if line.startswith("error: failed: ")]
    if len(lines) != 1 or said not in lines[0]:
        return f"{len(lines)} lines say that it failed, and not {said!r}: {err.strip()[-300:]}"
    runs = list(folder.rglob("results.json"))
    if not runs:
        return None if "No such file" in said else "results.json is gone"
    results = json.loads(runs[0].read_text())
    if results["status"] != "failed" or not results["error"]:
        return f"results.json says {results['status']}, {results['error']}"
    return _is_finite(runs[0].parent)


def _is_finite(run: Path) -> str | None:
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        file = run / "checkpoints" / name
        try:
            state = read_checkpoint(file)["state_dict"] if file.is_file() else {}
        except UsageError as error:
            return str(error)
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            return f"{name} holds values that are not finite"
    left = [file.name for file in (run / "checkpoints").iterdir() if file.name.startswith(".")]
    return f"left behind: {', '.join(left)}" if left else None


def _limited(kilobytes: int, folder: Path, data: Path) -> str | None:
    """No file of the process may be larger: what is real of a full disk, for every file of a run."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    ended = subprocess.run(
        shell_command(*TINY, _OFTEN),
        cwd=folder,
        env=shell_environment(data),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return _failed_well(folder, ended.returncode, ended.stderr, os.strerror(errno.EFBIG))


# ---- Numbers.

# (what is spoilt, in which optimiser steps of 10, the exit code, what is said)
WRONG_NUMBERS: dict[str, tuple[str, range, int, str]] = {
    "a loss of NaN, once": ("loss", range(4, 5), 0, "step 4, training batch 4 of seed 0 is skipped"),
    "a loss of infinity, three times": (
        "infinite loss",
        range(3, 6),
        0,
        "step 3, training batch 3 of seed 0 is skipped",
    ),
    "a loss of NaN from then on": ("loss", range(2, 99), 1, "no longer numbers (step 2, training batch 2 of seed 0)"),
    "a gradient of NaN, once": ("gradient", range(6, 7), 0, "step 6, training batch 6 of seed 0 is skipped"),
    "a gradient of infinity from then on": ("infinite gradient", range(5, 99), 1, "step 5, training batch 5"),
    "a weight of NaN": ("weight", range(3, 4), 1, "no longer numbers"),
}


def try_numbers(what: str, steps: range, code: int, said: str, folder: Path, data: Path, *overrides: str) -> str | None:
    """What is not well with a training in which numbers go wrong, or None.

    Args:
        what: is spoilt, as in `WRONG_NUMBERS`.
        steps: of the optimiser in which it is.
        code: with which it must exit.
        said: what the messages must say.
        folder: empty.
        data: root of the digits.
        *overrides: further settings.
    """
    value = math.inf if "infinite" in what else math.nan
    training_loss, clip = DeblurModule._training_loss, DeblurModule.configure_gradient_clipping

    def loss(self: DeblurModule, batch: object) -> torch.Tensor:
        made = training_loss(self, batch)
        return made * value if self.global_step in steps and "loss" in what else made

    def clipping(self: DeblurModule, *arguments: object, **named: object) -> None:
        if self.global_step in steps and "gradient" in what:
            next(self.network.parameters()).grad[0] = value
        if self.global_step in steps and "weight" in what:
            next(self.network.parameters()).data[0] = value
        clip(self, *arguments, **named)

    with (
        patch.object(DeblurModule, "_training_loss", loss),
        patch.object(DeblurModule, "configure_gradient_clipping", clipping),
    ):
        ended = call_door(folder, data, *TINY, _OFTEN, *overrides)
    if said not in ended.err:
        return f"does not say {said!r}: {ended.err.strip()[-300:]}"
    if code:
        return _failed_well(folder, ended.code, ended.err, said)
    return f"exit code {ended.code}: {ended.err[-300:]}" if ended.code else _is_finite(only_run(folder))


# ---- Damaged files.


def _flip(*names: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        for name in names:
            file = run / "checkpoints" / name
            with zipfile.ZipFile(file) as archive:
                weights = next(archive.read(part) for part in archive.infolist() if part.filename.endswith("/data/0"))
            content = bytearray(file.read_bytes())
            content[content.find(weights) + 1] ^= 4
            file.write_bytes(content)

    return damage


def _killed_between_the_renames(run: Path) -> None:
    (run / "checkpoints/last.ckpt").replace(run / "checkpoints/previous.ckpt")
    (run / "checkpoints/.last.12345.ckpt").write_bytes(b"half of it")


DAMAGES: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "a flipped bit in the last checkpoint": (_flip("last.ckpt"), 0, "the run goes on from the one before it"),
    "in the last two": (_flip("last.ckpt", "previous.ckpt"), 2, "damaged"),
    "in the best": (_flip("best.ckpt"), 0, "the best checkpoint from here on takes its place"),
    "an empty last checkpoint": (
        lambda run: (run / "checkpoints/last.ckpt").write_bytes(b"") and None,
        0,
        "one before",
    ),
    "killed between two renames": (_killed_between_the_renames, 0, "epoch 3/3"),
    "results.json cut off": (lambda run: (run / "results.json").write_text('{"status": "ru') and None, 0, "epoch 3/3"),
    "config.yaml cut off": (lambda run: (run / "config.yaml").write_text("blur: {_tar") and None, 2, "cannot be read"),
    "config.yaml of another version": (
        lambda run: (run / "config.yaml").write_text((run / "config.yaml").read_text() + "flux: 3\n") and None,
        2,
        "flux=3: no such key",
    ),
}


def try_damage(
    damage: Callable[[Path], None], code: int, said: str, whole: Path, folder: Path, data: Path
) -> str | None:
    """What is not well with how a damaged run is resumed, or None; it must come to the weights of an undamaged one."""
    hurt, sound = folder / "hurt", folder / "sound"
    for copy in (hurt, sound):
        shutil.copytree(whole, copy)
    damage(hurt)
    ended = call_door(folder, data, f"resume={hurt}", "trainer.max_epochs=3")
    if ended.code != code or said not in ended.err:
        return f"exit code {ended.code}, does not say {said!r}: {ended.err.strip()[-300:]}"
    if code:
        return is_one_line(ended)
    call_door(folder, data, f"resume={sound}", "trainer.max_epochs=3")
    mine, theirs = (read_checkpoint(run / "checkpoints/last.ckpt")["state_dict"] for run in (hurt, sound))
    if not all(torch.equal(mine[name], theirs[name]) for name in theirs):
        return "comes to other weights than the undamaged run"
    return _is_finite(hurt)
