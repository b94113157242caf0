"""A trained network as one file for other programs: ONNX, or PyTorch's own exported program."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblur.errors import ArgumentError, UsageError, check_choice, check_integer, check_path, shown
from deblur.seeding import generator
from deblur.training.restorer import Restorer, load
from deblur.training.run import Run, run_of
from deblur.training.settings import check_keys, section

_KEYS = ("run", "format", "output", "size", "allow")
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_SIZES = ((1, 33, 47), (3, 64, 40), (2, 50, 81))  # (images, height, width) that the file is tried on: odd, even, mixed
_TOLERANCE = 1e-4  # of what the file makes, images being in [0, 1]

Restore = Callable[[Tensor], Tensor]


def export(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Write the network of a run to one file, from blurred (B, C, H, W) in [0, 1] to restored; returns 0.

    The file is written under a temporary name, tried on random images beside the network, and renamed.

    Raises:
        UsageError: a setting is refused, or the network cannot be exported so; nothing was written.
    """
    check_keys(settings, _KEYS)
    with section(""):
        kind = check_choice("format", settings["format"], ("onnx", "pt2"))
        size = _size(settings["size"])
        check_path("run", settings["run"], "a run")
    run = run_of(settings["run"], "run")
    file = _file(settings["output"], run, kind)
    if kind == "onnx" and not all(map(find_spec, _PACKAGES)):
        raise UsageError(f"format=onnx: needs {', '.join(_PACKAGES)}: pip install -e '.[export]'")
    network = load(settings["run"], allow=settings["allow"]).to(memory_format=torch.contiguous_format)
    if network.takes_psf:
        raise UsageError(
            f"run={settings['run']}: its network is given the PSF, too (task=nonblind); must be a run whose network "
            "sees the blurred images alone"
        )
    shapes = _shapes(network, run, size)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.stem}.") as folder:
            whole = Path(folder) / file.name
            difference = _write(whole, network, shapes, kind)
            os.replace(whole, file)
    except OSError as error:
        raise UsageError(f"output={file}: cannot be written ({error.strerror or error})") from error
    sides = "any height and width" if _any_size(shapes) else f"{shapes[0][2]}x{shapes[0][3]} pixels only"
    print(f"exported: {file} ({file.stat().st_size / 1024:,.0f} KiB); images of {shapes[0][1]} x {sides}")
    print(f"largest difference to the network, on random images of {', '.join(map(_text, shapes))}: {difference:.1e}")
    return 0


def _write(file: Path, network: Restorer, shapes: Sequence[Sequence[int]], kind: str) -> float:
    """Write the file; returns the largest difference of what it makes of random images to what the network makes."""
    name = type(network.network).__name__
    fixed = "; size=[<height>,<width>] exports it for one size" if _any_size(shapes) else ""
    other = "; format=pt2 may take it" if kind == "onnx" else ""
    try:
        _save(_traced(network, shapes), file, kind, _any_size(shapes))
        exported, worst = _open(file, kind), 0.0
        for shape in shapes:
            blurred = torch.rand(shape, generator=generator("export", *shape))
            worst = max(worst, float((exported(blurred) - network(blurred)).abs().max()))
    except OSError:
        raise
    except Exception as error:  # of many kinds, none of which says what the user could do
        raise UsageError(f"format={kind}: {name} cannot be exported{other}{fixed} ({_reason(error)})") from error
    if not worst <= _TOLERANCE:
        raise UsageError(f"format={kind}: what is exported of {name} differs from the network by {worst:.1e}{fixed}")
    return worst


def _traced(network: Restorer, shapes: Sequence[Sequence[int]]) -> torch.export.ExportedProgram:
    """The network's operations on images of the first of the shapes, in what the shapes differ of any size."""
    example = torch.rand(2, *shapes[0][1:], generator=generator("export"))
    varied = [0, 2, 3] if _any_size(shapes) else [0]
    anything = dict.fromkeys(varied, torch.export.Dim.DYNAMIC)
    # The layouts of tensors in memory must not decide which sizes the program takes, as ONNX's exporter has it too.
    with torch.no_grad(), torch.fx.experimental._config.patch(backed_size_oblivious=True):
        return torch.export.export(network, (example,), dynamic_shapes=(anything,))


def _save(program: torch.export.ExportedProgram, file: Path, kind: str, any_size: bool) -> None:
    if kind == "pt2":
        torch.export.save(program, file)
        return
    axes = {0: "batch", 2: "height", 3: "width"} if any_size else {0: "batch"}
    names = {"input_names": ["blurred"], "output_names": ["restored"], "dynamic_shapes": (axes,)}
    torch.onnx.export(program, f=str(file), dynamo=True, verbose=False, external_data=False, **names)


def _open(file: Path, kind: str) -> Restore:
    """What the file holds, as a function on images."""
    if kind == "pt2":
        return torch.export.load(file).module()
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # it would tell of an error beside raising it
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda blurred: torch.from_numpy(session.run(None, {"blurred": blurred.numpy()})[0])


def _shapes(network: Restorer, run: Run, size: tuple[int, int] | None) -> list[tuple[int, int, int, int]]:
    """(B, C, H, W) of the images that the file is tried on: of several sizes where the network takes any."""
    channels, config = run.channels, run.config()
    if size is None:
        shapes = [(images, channels, *sides) for images, *sides in _SIZES]
        if all(_takes(network, shape) for shape in shapes):
            return shapes
        known = (config["model"].get("image_size"), config["data"].get("size"), 28)
        sizes = [(side, side) for side in known if isinstance(side, int)]
    else:
        sizes = [size]
    for sides in sizes:
        if _takes(network, (1, channels, *sides)):
            return [(images, channels, *sides) for images, *_ in _SIZES]
    tried = ", ".join(f"{channels}x{height}x{width}" for height, width in sizes)
    raise UsageError(f"size={shown(size)}: the network takes no images of {tried}")


def _takes(network: Restorer, shape: tuple[int, ...]) -> bool:
    try:
        return network(torch.zeros(shape)).shape == shape
    except (RuntimeError, ValueError):
        return False


def _any_size(shapes: Sequence[Sequence[int]]) -> bool:
    return len({tuple(shape[2:]) for shape in shapes}) > 1


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2:
        raise ArgumentError("size", value, "[height, width] in pixels, one number for both, or null for any")
    return check_integer("size", sides[0], low=1), check_integer("size", sides[1], low=1)


def _file(output: str | None, run: Run, kind: str) -> Path:
    if output is None:
        return run.path / f"network.{kind}"
    with section(""):
        file = check_path("output", output, f"a .{kind} file")
        if file.suffix.lower() != f".{kind}" or file.is_dir():
            raise ArgumentError("output", output, f"a .{kind} file")
    return file


def _reason(error: BaseException) -> str:
    """The innermost of the errors that led to this one, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return shown(error)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
