"""Damaged files for every reader: cut, changed, spliced and random bytes, by hypothesis, seeded."""

from __future__ import annotations

import gzip
import io
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from PIL import Image

import deblur
from deblur.data.idx import read_idx
from deblur.data.kernel_file import KernelFile
from deblur.data.picture_files import read_photograph
from deblur.errors import ArgumentError, UsageError
from deblur.faults.row import Row, Setting
from deblur.faults.tiny import trained_run
from deblur.restoration.picture import Picture
from deblur.summary import Sweep
from deblur.training.logger import HISTORY, read_history
from deblur.training.run import PUBLISHED, Run
from deblur.training.weights import read_weights

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_SECONDS = 5.0  # most of one input, of the processor: a busy machine is no hang
_MEGABYTES = 600  # most that a reader's inputs may add to the memory of this process
# What hostile or sloppy hands put in place of a value.
_VALUES = (
    *(b".nan", b"-.inf", b"1e999", b"-1", b"9" * 5000, b"null", b"''", b"[]", b"{}", b"[" * 3000, b"{a: " * 300),
    *(
        b"&a [*a]",
        b"*a",
        b"<<: {a: 1}",
        b"!!python/object/apply:os.system [true]",
        b"!!binary x",
        b"!!bool x",
        b"!!int x",
    ),
    *(b"2001-99-99", b"${oc.env:HOME}", b"../../x", b"\0", b"\xff\xfe", b"? [a]\n: b", b"os.system", b"deblur.build"),
)


@dataclass(frozen=True)
class Reader:
    """What reads a kind of file.

    Attributes:
        name: for the table.
        file: that the bytes go to, in a folder of its own.
        wholes: good content.
        read: reads the file; raises `UsageError` or one of `clean` for what it refuses.
        clean: further errors that its callers turn into a line.
    """

    name: str
    file: str
    wholes: tuple[bytes, ...]
    read: Callable[[Path], Any]
    clean: tuple[type[Exception], ...] = (UsageError, ArgumentError)


def readers(run: Path) -> list[Reader]:
    """All readers of files.

    Args:
        run: a finished run, whose files are among the good ones.
    """
    digits = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    idx = b"\0\0\x08\x03" + np.array(digits.shape, ">u4").tobytes() + digits.tobytes()
    psfs = np.ones((2, 3, 3), np.float32) / 9
    arrays = [_bytes_of(np.save, psfs), _bytes_of(np.save, psfs.astype(">f8"))]
    archives = [_bytes_of(np.savez, a=psfs), _bytes_of(np.savez_compressed, a=psfs, b=psfs[0])]
    kinds = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
    pictures = (_picture("PNG", "I;16"), *(_picture(kind, mode) for kind in kinds for mode in ("L", "RGB")))
    config, results = (run / "config.yaml").read_bytes(), (run / "results.json").read_bytes()
    small = {"state_dict": {"a": torch.ones(3)}, "hyper_parameters": {}, "epoch": 1, "global_step": 2}
    sweep = {"command": ["seed=1,2"], "swept": ["seed"], "metric": "test/psnr"}
    sweep["jobs"] = [{"name": f"seed={seed}", "overrides": {"seed": str(seed)}} for seed in (1, 2)]
    history = json.dumps({"val/psnr": [[5, 20.0], [10, 21.5]], "train/loss": [[5, 0.1]]}).encode()
    checkpoint = (run / "checkpoints/best.ckpt").read_bytes()
    return [
        Reader("IDX", "images", (idx,), read_idx, (ValueError,)),
        Reader("IDX, compressed", "images.gz", (gzip.compress(idx, mtime=0),), read_idx, (ValueError,)),
        Reader("photographs", "photo.png", pictures, lambda file: read_photograph(file, 1)),
        Reader("pictures to restore", "picture.png", pictures, Picture.read),
        Reader("PSFs, .npy", "psfs.npy", tuple(arrays), lambda file: KernelFile(str(file))),
        Reader("PSFs, .npz", "psfs.npz", tuple(archives), lambda file: KernelFile(str(file))),
        Reader("PSFs, pictures", "psf.png", pictures[1:3], lambda file: KernelFile(str(file))),
        Reader("settings of a run", "config.yaml", (config,), lambda file: _read_settings(file, run)),
        Reader("results of a run", "results.json", (results,), lambda file: _read_results(file, run)),
        Reader("checkpoints", "last.ckpt", (_bytes_of(lambda f, c: torch.save(c, f), small), checkpoint), read_weights),
        Reader("published weights", PUBLISHED, (_safetensors(),), lambda file: _read_published(file, run)),
        Reader(
            "sweeps", "sweep.yaml", (yaml.safe_dump(sweep).encode(),), lambda file: Sweep.open(str(file.parent)).rows()
        ),
        Reader("histories", HISTORY, (history,), lambda file: read_history(file.parent)),
    ]


def run(setting: Setting) -> list[Row]:
    """Try `count` inputs on each reader."""
    whole = trained_run(setting.folder / "whole", setting.data)
    rows = []
    for reader in readers(whole):
        rows.append(Row(f"damaged files: {reader.name}", "read, or refused in one line; no crash, no hang"))
        rows[-1].details["bytes"] = sum(map(len, reader.wholes))
        setting.say(f"fuzz: {reader.name}")
        failure = try_reader(reader, setting.folder / "fuzz", setting.count, setting.seed, rows[-1])
        if failure is not None:
            rows[-1].failures.append(failure)
    return rows


def try_reader(reader: Reader, folder: Path, count: int, seed_number: int = 0, row: Row | None = None) -> str | None:
    """What the smallest input does on which the reader fails, or None: on none of `count` it did.

    Args:
        reader: to try.
        folder: for its file; made anew.
        count: inputs.
        seed_number: chooses them.
        row: counts them, if given.
    """
    from hypothesis import HealthCheck, Phase, given, seed, settings

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / reader.file
    before = _peak()

    @seed(seed_number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(_damaged(reader.wholes))
    def survives(content: bytes) -> None:
        if row is not None:
            row.tried += 1
        file.write_bytes(content)
        started = time.process_time()
        said = ""
        try:
            reader.read(file)
        except reader.clean as error:
            said = str(error)
        assert "\n" not in said, f"an error of several lines: {said}"
        assert time.process_time() - started < _SECONDS, "takes too long"
        assert _peak() - before < _MEGABYTES, "takes too much memory"

    try:
        survives()
    except Exception as error:
        return f"{type(error).__name__}: {error} on {file.read_bytes()[:200]!r}"
    return None


def _damaged(wholes: tuple[bytes, ...]) -> SearchStrategy[bytes]:
    from hypothesis import strategies as st

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        content = bytearray(draw(st.sampled_from(wholes)))
        for _ in range(draw(st.integers(1, 4))):
            place = draw(st.integers(0, len(content)))
            kind = draw(st.sampled_from(("cut", "flip", "byte", "huge", "value", "swap", "drop", "repeat", "random")))
            if kind == "cut":
                del content[place:]
            elif kind == "flip" and place < len(content):
                content[place] ^= 1 << draw(st.integers(0, 7))
            elif kind == "byte" and place < len(content):
                content[place] = draw(st.integers(0, 255))
            elif kind == "huge":
                content[place : place + 4] = draw(st.sampled_from((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x40")))
            elif kind == "value":
                content = _with_value(content, place, draw(st.sampled_from(_VALUES)))
            elif kind == "swap":
                other = draw(st.sampled_from(wholes))
                content[place:] = other[min(place, len(other)) :]
            elif kind == "drop":
                del content[place : place + draw(st.integers(1, 64))]
            elif kind == "repeat":
                content[place:place] = content[place : place + draw(st.integers(1, 64))] * 3
            elif kind == "random":
                content[place:place] = draw(st.binary(max_size=64))
        return bytes(content)

    return draw_one()


def _with_value(content: bytearray, place: int, value: bytes) -> bytearray:
    """The text with the value after the next colon replaced."""
    begin = content.find(b": ", place) + 2
    end = content.find(b"\n", begin)
    if begin < 2 or end < 0:
        return content[:place] + value + content[place:]
    return content[:begin] + value + content[end:]


def _read_settings(file: Path, run: Path) -> None:
    """Open a published run with these settings, and build what a resumed one would."""
    for name in ("results.json", PUBLISHED):
        if not (file.parent / name).exists():
            shutil.copy(run / name, file.parent)
    deblur.load(file.parent)


def _read_results(file: Path, run: Path) -> None:
    if not (file.parent / "config.yaml").exists():
        shutil.copy(run / "config.yaml", file.parent)
    opened = Run.open(str(file.parent), "run")
    opened.state()
    opened.made_with()
    (file.parent / "sweep.yaml").write_text(
        "command: []\nswept: []\nmetric: test/psnr\njobs:\n- {name: job, overrides: {}}\n"
    )
    (file.parent / "job").mkdir(exist_ok=True)
    shutil.copy(file, file.parent / "job")
    shutil.copy(file.parent / "config.yaml", file.parent / "job")
    plan = Sweep.open(str(file.parent))
    plan._cells(plan.rows())


def _read_published(file: Path, run: Path) -> None:
    if not (file.parent / "config.yaml").exists():
        shutil.copy(run / "config.yaml", file.parent)
    read_weights(file)


def _bytes_of(save: Callable[..., Any], *arguments: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, *arguments, **named)
    return stream.getvalue()


def _picture(kind: str, mode: str) -> bytes:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (9, 7, 3) if mode == "RGB" else (9, 7), dtype=np.uint8)
    image = Image.fromarray(pixels.astype(np.uint16) * 257 if mode == "I;16" else pixels)
    exif = Image.Exif()
    exif[274] = 6  # turned
    named = {"exif": exif.tobytes()} if kind in ("JPEG", "WEBP") else {}
    return _bytes_of(image.save, format=kind, **named)


def _safetensors() -> bytes:
    from safetensors.torch import save

    return save({"network.a": torch.ones(3), "network.b": torch.zeros(2, 2, dtype=torch.float16)})


def _peak() -> float:
    """Megabytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
