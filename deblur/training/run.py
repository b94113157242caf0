"""The run folder: where everything of one training lies, and the one place that knows a run's state."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

from deblur.errors import ArgumentError, UsageError, check_path, shown
from deblur.installed import installed
from deblur.stored import dump_yaml, read_json, read_yaml

STATES = ("new", "running", "finished", "failed", "interrupted", "pruned")

_LOOKS = 5  # times that a lock is tried: a process that only looks whether it is free holds it for a moment
PREVIOUS = "previous.ckpt"  # the checkpoint before the last, should that be damaged
PUBLISHED = "weights.safetensors"  # of a run that has no checkpoints, only what is needed to use its network


class InUse(UsageError):
    """Another process is working in the run."""


class MadeOtherwise(UsageError):
    """An earlier try of a sweep's job had other settings."""


class Run:
    """One training's folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, parent: Path, name: str | None = None, *, alone: bool = False) -> Run:
        """A new folder in `parent`, named by the time if no name is given; a suffix keeps equal names apart.

        Args:
            parent: made, if it is not there.
            name: of the folder.
            alone: whether there may be no other of this name: then there is no suffix.

        Raises:
            InUse: another process has just made the only one that there may be.
            UsageError: it cannot be made.
        """
        name = folder_name(name or datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for candidate in islice(suffixed(name), 9_999):
                path = parent / candidate
                try:
                    path.mkdir()
                except FileExistsError:
                    if alone:
                        raise InUse(f"{path}: another process is working in this run") from None
                    continue
                (path / "checkpoints").mkdir()
                (path / "figures").mkdir()
                return cls(path)
        except OSError as error:
            raise UsageError(f"output_root={parent}: no run folder can be made there ({error.strerror})") from error
        raise UsageError(f"output_root={parent}: too many runs named {name}")

    @classmethod
    def open(cls, path: str, key: str) -> Run:
        """The run in an existing folder, or that its last checkpoint belongs to.

        Args:
            path: as the user typed it.
            key: the setting it was typed for, for the message.

        Raises:
            UsageError: there is no run.
        """
        try:
            folder = check_path(key, path, "a run")
        except ArgumentError as error:
            raise UsageError(str(error)) from error
        if folder.is_file() and folder.name == "last.ckpt":
            folder = folder.parent.parent
        if not (folder / "config.yaml").is_file() or not (folder / "results.json").is_file():
            raise UsageError(f"{key}={path}: is no run; a run is a folder with config.yaml and results.json")
        refuse_links(folder)
        return cls(folder)

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation metric."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The newest checkpoint, from which training goes on."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def checkpoints(self) -> list[Path]:
        """What there is to go on from, the newest first: the last checkpoint, and the one before it."""
        return [file for file in (self.last, self.last.with_name(PREVIOUS)) if file.is_file()]

    @property
    def trained(self) -> Path:
        """The file of weights to use: the best checkpoint, the last if none was chosen, or what was published."""
        files = (self.best, self.last, self.path / PUBLISHED)
        return next((file for file in files if file.is_file()), self.last)

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def config(self) -> dict[str, Any]:
        """The run's resolved config, as plain containers; nothing in it is interpolated again.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            config = read_yaml(self.config_path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.config_path}: cannot be read: {shown(error)}") from error
        if not isinstance(config, dict):
            raise UsageError(f"{self.config_path}: must hold the settings of a run")
        return config

    @property
    def channels(self) -> int:
        """Channels of the images that the run's network takes: its data's, or, of data with no such key, its own."""
        config = self.config()
        parts = [config.get(name) for name in ("data", "model")]
        found = next((part["channels"] for part in parts if isinstance(part, Mapping) and "channels" in part), 1)
        if isinstance(found, bool) or not isinstance(found, int) or found < 1:
            raise UsageError(f"{self.config_path}: channels={shown(found)}: must be a whole number >= 1")
        return found

    def write_config(self, config: Mapping[str, Any]) -> None:
        write_atomically(self.config_path, dump_yaml(config))

    def results(self) -> dict[str, Any]:
        """The content of results.json; empty if there is none that can be read."""
        try:
            results = read_json(self.path / "results.json")
        except (OSError, ValueError):
            return {}
        return results if isinstance(results, dict) and _has_kinds(results) else {}

    def made_with(self) -> str:
        """Of which version the run is and which this is, to end a message about what does not fit; empty if equal."""
        here = installed("deblur")
        theirs, ours = self.results().get("versions", {}).get("deblur"), here and here.version
        if theirs == ours:
            return ""
        made, this = (f"deblur {shown(version)}" if version else "an unknown version" for version in (theirs, ours))
        return f"; the run was made with {made}, this is {this}"

    def write_results(self, **changes: Any) -> dict[str, Any]:
        """Change these entries of results.json and return all; a value that is not finite becomes null."""
        results = self.results() | changes
        write_atomically(self.path / "results.json", json.dumps(_finite(results), indent=2, allow_nan=False) + "\n")
        return results

    def state(self) -> str:
        """`new`, `running`, `finished`, `failed`, `interrupted` or, of a search's trial that was stopped, `pruned`.

        A run that says running but whose process has gone (its lock is free) was interrupted; one that says nothing yet
        and has a process is about to.
        """
        status = self.results().get("status", "new")
        if status == "running" and not self._is_locked():
            return "interrupted"
        if status == "new" and self._is_locked():
            return "running"
        return status if status in STATES else "new"

    def lock(self) -> None:
        """Keep other processes out of the folder for as long as this one lives.

        Raises:
            InUse: another process has it.
            UsageError: it cannot be written.
        """
        try:
            self._lock = _open_lock(self.path / ".lock")
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be written ({error.strerror})") from error
        for _ in range(_LOOKS):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                time.sleep(0.01)
        os.close(self._lock)
        self._lock = None
        raise InUse(f"{self.path}: another process is working in this run")

    def unlock(self) -> None:
        """Let others in again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def tidy(self) -> None:
        """Remove what processes that were killed have left under temporary names; the caller has the lock."""
        for folder in (self.path, self.last.parent):
            for file in folder.glob(".*.*.*"):
                if re.fullmatch(r"\.\w+\.\d+\.(ckpt|json|yaml)", file.name):
                    file.unlink(missing_ok=True)

    def _is_locked(self) -> bool:
        if self._lock is not None:
            return True
        try:
            probe = os.open(self.path / ".lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(probe)
        return False


@contextmanager
def telling_version(run: Run | None) -> Iterator[None]:
    """Within the block, an error about a run that another version has made says which."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{error}{'' if run is None else run.made_with()}") from error


def trained_checkpoint(path: str, key: str) -> Path:
    """The file of weights that a path means: a file itself, or the one to use of a run folder.

    Raises:
        UsageError: there is no run.
    """
    file = Path(path).expanduser()
    return file if file.is_file() else Run.open(path, key).trained


def run_of(path: str, key: str) -> Run:
    """The run in a folder, or the one that a checkpoint or a file of weights belongs to.

    Raises:
        UsageError: there is none.
    """
    place = Path(path).expanduser()
    if place.is_file():
        place = place.parent.parent if place.parent.name == "checkpoints" else place.parent
    return Run.open(str(place), key)


def folder_name(text: str) -> str:
    """The text with only the characters that folder names may hold: `[A-Za-z0-9._=-]`."""
    text = re.sub(r"(\de)\+(?=\d)", r"\1", text)  # 1e+30, which must not become 1e-30
    name = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.")
    return name[:200] or "run"


def suffixed(name: str) -> Iterator[str]:
    """The name, then the same with a number behind it: what to try in turn where names may be taken."""
    yield name
    for number in count(2):
        yield f"{name}_{number}"


def refuse_links(folder: Path) -> None:
    """Refuses a folder with symbolic links that lead out of it: what is written into such a folder lands elsewhere.

    Raises:
        UsageError: there is one.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UsageError(f"{path}: is a symbolic link out of the folder; put what it leads to in its place")


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Within the block, no other process is in a block with this lock file, which ends with its process."""
    descriptor = _open_lock(lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_lock(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def write_atomically(path: Path, content: str) -> None:
    """Write the file whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Within the block, a name to write to; what lies there at its end is on the disk, and becomes the file.

    The file is the old or the new one, whole, whenever the process or the machine stops.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        with suppress(OSError):  # some file systems cannot flush a folder
            _flush(path.parent)
    finally:
        with suppress(OSError):  # the folder may be gone
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _has_kinds(results: Mapping[str, Any]) -> bool:
    """Whether what others rely on in a results.json is of the kind that a run writes."""
    numbers = [results.get(key) for key in ("parameters", "images_per_second", "seconds", "best_epoch")]
    metrics = results.get("metrics", {})
    versions = results.get("versions", {})
    if not isinstance(metrics, dict) or not isinstance(versions, dict):
        return False
    texts = [results.get("status", "new"), *versions.values()]
    return all(isinstance(text, str) for text in texts) and all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        for value in (*numbers, *metrics.values())
    )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
