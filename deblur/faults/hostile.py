"""The attacks, and how each is put into a run's folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
import yaml

VARIABLE, SECRET = "DEBLUR_TEST_SECRET", "swordfish-8c1f"
_BOMB = 2**30  # bytes that a few hundred kilobytes unpack to
_MODEL = ("load", "resume")
_CONFIG = ("load", "resume", "evaluate")


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        kind: for the table.
        name: of it.
        plant: puts it into a run's folder; gets that and the folder outside, which must not change.
        uses: how the run is used then, names of `attacks.USES`.
        unfinished: the run says that it is not finished, so that it is resumed in earnest.
    """

    kind: str
    name: str
    plant: Callable[[Path, Path], None]
    uses: tuple[str, ...]
    unfinished: bool = False


class NotPlanted(Exception):
    """An attack finds nothing of what it changes: what is tried then is no attack."""


def replaced(content: Any, old: Any, new: Any) -> Any:
    """The text or bytes with all that is old replaced.

    Raises:
        NotPlanted: nothing is.
    """
    if old not in content:
        raise NotPlanted(f"there is no {old!r} to replace")
    return content.replace(old, new)


class _Payload:
    """Unpickled, it would make a file."""

    def __init__(self, outside: Path) -> None:
        self.command = f"touch {outside}/attacked"

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


class _Call:
    """Unpickled, it would call something with these arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def _checkpoint(run: Path, change: Callable[[dict], Any], **options: Any) -> None:
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    content = change(content) or content
    for name in ("best.ckpt", "last.ckpt"):
        torch.save(content, run / "checkpoints" / name, **options)
    (run / "weights.safetensors").unlink()


def _both(run: Path, content: bytes) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        (run / "checkpoints" / name).write_bytes(content)


def _pickle_in_the_weights(run: Path, outside: Path) -> None:
    _checkpoint(run, lambda content: content["state_dict"].update(attack=_Payload(outside)))


def _pickle_in_the_settings(run: Path, outside: Path) -> None:
    _checkpoint(run, lambda content: content["hyper_parameters"].update(attack=_Payload(outside)))


def _old_pickle(run: Path, outside: Path) -> None:
    _checkpoint(run, lambda content: {**content, "attack": _Payload(outside)}, _use_new_zipfile_serialization=False)


def _bare_pickle(run: Path, outside: Path) -> None:
    _both(run, pickle.dumps(_Payload(outside)))


def _giant_bytes(run: Path, outside: Path) -> None:
    _checkpoint(run, lambda content: {**content, "attack": _Call(bytearray, 3 * 2**30)})


def _giant_storage(run: Path, outside: Path) -> None:
    _checkpoint(run, lambda content: {**content, "attack": _Call(torch.UntypedStorage, 2**40)})


def _giant_tensor(run: Path, outside: Path) -> None:
    """The first size of the first kernel, 8, becomes two thousand million."""
    parts = _parts(run / "checkpoints/last.ckpt")
    (described,) = [name for name in parts if name.endswith("data.pkl")]
    parts[described] = replaced(parts[described], b"K\x08K\x04K\x03", b"J\xff\xff\xff\x7fK\x04K\x03")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    _both(run, stream.getvalue())


def _zip_bomb(run: Path, outside: Path) -> None:
    parts = _parts(run / "checkpoints/last.ckpt")
    if not any(name.endswith("data/0") for name in parts):
        raise NotPlanted(f"no data/0 among {', '.join(parts)}")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            with archive.open(name, "w") as part:
                part.write(content)
                _fill(part, _BOMB if name.endswith("data/0") else 0)
    _both(run, stream.getvalue())


def _parts(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _fill(part: IO[bytes], size: int) -> None:
    for _ in range(size // 2**24):
        part.write(b"\0" * 2**24)


def _pickle_bomb(run: Path, outside: Path) -> None:
    """Settings of ten lists within each other, ten times the same in each: ten thousand million values."""

    def grow(content: dict) -> None:
        layer: Any = "x"
        for _ in range(10):
            layer = [layer] * 10
        content["hyper_parameters"]["model"]["widths"] = layer

    _checkpoint(run, grow)


def _settings(run: Path, change: Callable[[dict], Any]) -> None:
    """Change the run's config, and the settings in its checkpoints."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))

    def alike(content: dict) -> None:
        for key in ("model", "loss", "optimizer", "scheduler"):
            content["hyper_parameters"][key] = config[key]

    _checkpoint(run, alike)


def _target(section: str, target: str, **arguments: Any) -> Callable[[Path, Path], None]:
    def plant(run: Path, outside: Path) -> None:
        filled = {key: value.replace("{outside}", str(outside)) for key, value in arguments.items()}
        _settings(run, lambda config: config.update({section: {"_target_": target, **filled}}))

    return plant


def _nested_target(run: Path, outside: Path) -> None:
    attack = {"_target_": "os.system", "command": f"touch {outside}/attacked"}
    _settings(run, lambda config: config["model"].update(width=[{"a": attack}]))


def _allowed_by_itself(run: Path, outside: Path) -> None:
    attack = {"_target_": "subprocess.Popen", "args": ["touch", f"{outside}/attacked"]}
    _settings(run, lambda config: config.update(allow=["subprocess", "*"], model=attack))


def _value(path: str, value: str) -> Callable[[Path, Path], None]:
    def plant(run: Path, outside: Path) -> None:
        def change(config: dict) -> None:
            *parents, leaf = path.split(".")
            place = config
            for key in parents:
                place = place[key]
            if leaf not in place:
                raise NotPlanted(f"the settings have no {path}")
            place[leaf] = value.replace("{outside}", str(outside))

        _settings(run, change)

    return plant


def _config_text(text: str) -> Callable[[Path, Path], None]:
    def plant(run: Path, outside: Path) -> None:
        (run / "config.yaml").write_text(text.replace("{outside}", str(outside)))
        shutil.rmtree(run / "checkpoints")  # so that its weights are the published ones, which need the config
        (run / "checkpoints").mkdir()

    return plant


def _yaml_bomb(merged: bool) -> str:
    lines = ["a0: &a0 {k: v}" if merged else "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for number in range(1, 10):
        names = ", ".join([f"*a{number - 1}"] * 10)
        lines.append(f"a{number}: &a{number} {{<<: [{names}]}}" if merged else f"a{number}: &a{number} [{names}]")
    return "\n".join(lines)


def _text(name: str, text: str) -> Callable[[Path, Path], None]:
    return lambda run, outside: (run / name).write_text(text) and None


def _link(name: str, target: str = "precious.txt") -> Callable[[Path, Path], None]:
    def plant(run: Path, outside: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(outside / target)

    return plant


def _sweep(job: str, lock: bool = False) -> Callable[[Path, Path], None]:
    def plant(run: Path, outside: Path) -> None:
        sweep = {"command": [], "swept": [], "metric": "test/psnr", "jobs": [{"name": job, "overrides": {}}]}
        (run.parent / "sweep.yaml").write_text(yaml.safe_dump(sweep))
        if lock:
            (run.parent / ".summary.lock").symlink_to(outside / "precious.txt")
        (outside / "results.json").write_text(json.dumps({"status": "failed", "error": SECRET}))

    return plant


def _safetensors(header: dict, claimed: int | None = None) -> Callable[[Path, Path], None]:
    def plant(run: Path, outside: Path) -> None:
        text = json.dumps(header).encode()
        size = len(text) if claimed is None else claimed
        (run / "weights.safetensors").write_bytes(struct.pack("<Q", size) + text + b"\0" * 8)
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").mkdir()

    return plant


def _psfs(content: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    return lambda run, outside: (run / "psfs.npy").write_bytes(content(outside)) and None


def _npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + b"\0" * 64


def _object_array(outside: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([_Payload(outside)], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _long_array(outside: Path) -> bytes:
    """A thin strip, whose square of zeros around it would be 80 gigabytes."""
    stream = io.BytesIO()
    np.save(stream, np.ones((1, 1, 100_000), np.float32))
    return stream.getvalue()


def _npz_bomb(outside: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as part:
        part.write(_npy_header((_BOMB // 72, 3, 3)))
        _fill(part, _BOMB)
    return stream.getvalue()


_CODE, _SECRETS, _GIANTS, _PLACES = "code", "secrets", "giants and bombs", "places outside of the folder"
_CKPT = ("weights", "load", "resume", "init")
_VARIABLE = "${oc.env:" + VARIABLE + "}"

ATTACKS = (
    Attack(_CODE, "a pickle that starts a program, among the weights", _pickle_in_the_weights, _CKPT),
    Attack(_CODE, "the same among the settings of a checkpoint", _pickle_in_the_settings, _CKPT),
    Attack(_CODE, "the same in torch's old format", _old_pickle, _CKPT),
    Attack(_CODE, "a bare pickle for a checkpoint", _bare_pickle, _CKPT),
    Attack(
        _CODE, "model._target_: os.system", _target("model", "os.system", command="touch {outside}/attacked"), _CONFIG
    ),
    Attack(_CODE, "loss._target_: subprocess.Popen", _target("loss", "subprocess.Popen", args="true"), _CONFIG),
    Attack(_CODE, "optimizer._target_: builtins.exec", _target("optimizer", "builtins.exec"), _CONFIG),
    Attack(
        _CODE, "blur._target_: os.system", _target("blur", "os.system", command="touch {outside}/attacked"), _CONFIG
    ),
    Attack(
        _CODE, "data._target_: os.system", _target("data", "os.system", command="touch {outside}/attacked"), _CONFIG
    ),
    Attack(_CODE, "module._target_: os.system", _target("module", "os.system", command="x"), ("resume",)),
    Attack(_CODE, "model._target_: torch.hub.load", _target("model", "torch.hub.load", repo_or_dir="x/y"), _CONFIG),
    Attack(_CODE, "a program reached through deblur", _target("model", "deblur.cli.os.system", command="x"), _CONFIG),
    Attack(_CODE, "a package's __main__", _target("model", "torch.utils.model_dump.__main__.main"), _CONFIG),
    Attack(_CODE, "a _target_ within a list within a value", _nested_target, _CONFIG),
    Attack(_CODE, "settings that allow themselves more packages", _allowed_by_itself, _CONFIG),
    Attack(
        _CODE,
        "a YAML tag that calls",
        _config_text("seed: !!python/object/apply:os.system ['touch {outside}/attacked']"),
        _MODEL,
    ),
    Attack(_CODE, "a .npy of pickled objects", _psfs(_object_array), ("psfs",)),
    Attack(_SECRETS, "${oc.env:} in the settings' name", _value("name", _VARIABLE), _MODEL),
    Attack(_SECRETS, "${oc.env:} in the model", _value("model.width", _VARIABLE), _CONFIG),
    Attack(_SECRETS, "${oc.env:} in the blur", _value("blur.registration", _VARIABLE), _CONFIG),
    Attack(
        _SECRETS,
        "${oc.env:} in the data's root",
        _value("data.root", _VARIABLE),
        ("evaluate", "resume"),
        unfinished=True,
    ),
    Attack(_SECRETS, "a figure that is a link to a secret", _link("figures/curves.png"), ("publish",)),
    Attack(_SECRETS, "settings that are a link to a secret", _link("config.yaml"), ("load", "resume", "publish")),
    Attack(_GIANTS, "a YAML bomb of aliases", _config_text(_yaml_bomb(False)), _MODEL),
    Attack(_GIANTS, "a YAML bomb of merges", _config_text(_yaml_bomb(True)), _MODEL),
    Attack(_GIANTS, "YAML nested 100,000 deep", _config_text("a: " + "[" * 100_000), _MODEL),
    Attack(_GIANTS, "settings of 50 megabytes", _config_text("a: " + "x" * 50_000_000), _MODEL),
    Attack(_GIANTS, "results nested 100,000 deep", _text("results.json", "[" * 100_000), ("load", "resume")),
    Attack(_GIANTS, "a pickle that asks for 3 gigabytes", _giant_bytes, _CKPT),
    Attack(_GIANTS, "a pickle that asks for a terabyte of storage", _giant_storage, _CKPT),
    Attack(_GIANTS, "a tensor that claims to be large", _giant_tensor, _CKPT),
    Attack(_GIANTS, "a zip bomb for a checkpoint", _zip_bomb, _CKPT),
    Attack(_GIANTS, "a pickle bomb of lists", _pickle_bomb, _CKPT),
    Attack(_GIANTS, "a header of published weights that claims 2**60 bytes", _safetensors({}, 2**60), ("load", "init")),
    Attack(
        _GIANTS,
        "published weights that claim a terabyte",
        _safetensors({"network.a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}),
        ("load", "init"),
    ),
    Attack(_GIANTS, "a .npy that claims terabytes", _psfs(lambda _: _npy_header((2**40, 3, 3))), ("psfs",)),
    Attack(_GIANTS, "a .npy of one long strip", _psfs(_long_array), ("psfs",)),
    Attack(_GIANTS, "a .npz bomb", _psfs(_npz_bomb), ("psfs",)),
    Attack(_PLACES, "../ in the run's name", _value("name", "../../../{outside}/x"), ("resume",), unfinished=True),
    Attack(_PLACES, "another output_root", _value("output_root", "{outside}"), ("resume",), unfinished=True),
    Attack(_PLACES, "another root of the data", _value("data.root", "{outside}/data"), ("resume",), unfinished=True),
    Attack(_PLACES, "../ in the sweep's name", _value("sweep.name", "../../outside"), ("resume",), unfinished=True),
    Attack(_PLACES, "../ in the name of a sweep's job", _sweep("../outside"), ("summary",)),
    Attack(_PLACES, "a sweep's lock that is a link", _sweep("run", lock=True), ("summary",)),
    *(
        Attack(_PLACES, f"{name} is a link", _link(name, target), ("resume", "evaluate"), unfinished=True)
        for name, target in (
            ("results.json", "results.json"),
            ("train.log", "precious.txt"),
            (".lock", "new.txt"),
            ("checkpoints", ""),
            ("figures", ""),
            ("figures/curves.png", "precious.txt"),
            ("checkpoints/last.ckpt", "precious.txt"),
        )
    ),
)
