"""The run folder: where everything of one training lies, and the one place that knows a run's state."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from deblur.errors import ArgumentError, UsageError, check_path

STATES = ("new", "running", "finished", "failed", "interrupted", "pruned")


_LOOKS = 5  # times that a lock is tried: a process that only looks whether it is free holds it for a moment
PUBLISHED = "weights.safetensors"  # of a run that has no checkpoints, only what is needed to use its network


class Run:
    """One training's folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, parent: Path, name: str | None = None) -> Run:
        """A new folder in `parent`, named by the time if no name is given; a suffix keeps equal names apart.

        Raises:
            UsageError: it cannot be made.
        """
        name = folder_name(name or datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for suffix in range(1, 10_000):
                path = parent / (name if suffix == 1 else f"{name}_{suffix}")
                try:
                    path.mkdir()
                except FileExistsError:
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
            config = yaml.safe_load(self.config_path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"{self.config_path}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(config, dict):
            raise UsageError(f"{self.config_path}: must hold the settings of a run")
        return config

    @property
    def channels(self) -> int:
        """Channels of the images that the run's network takes: its data's, or, of data with no such key, its own."""
        config = self.config()
        parts = [config.get(name) for name in ("data", "model")]
        return int(next((part["channels"] for part in parts if isinstance(part, Mapping) and "channels" in part), 1))

    def write_config(self, config: Mapping[str, Any]) -> None:
        write_atomically(self.config_path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def results(self) -> dict[str, Any]:
        """The content of results.json; empty if there is none that can be read."""
        try:
            results = json.loads((self.path / "results.json").read_text())
        except (OSError, ValueError):
            return {}
        return results if isinstance(results, dict) else {}

    def write_results(self, **changes: Any) -> dict[str, Any]:
        """Change these entries of results.json and return all; a value that is not finite becomes null."""
        results = self.results() | changes
        write_atomically(self.path / "results.json", json.dumps(_finite(results), indent=2, allow_nan=False) + "\n")
        return results

    def state(self) -> str:
        """`new`, `running`, `finished`, `failed`, `interrupted` or, of a search's trial that was stopped, `pruned`.

        A run that says running but whose process has gone (its lock is free) was interrupted.
        """
        status = self.results().get("status", "new")
        if status == "running" and not self._is_locked():
            return "interrupted"
        return status if status in STATES else "new"

    def lock(self) -> None:
        """Keep other processes out of the folder for as long as this one lives.

        Raises:
            UsageError: another process has it.
        """
        self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        for _ in range(_LOOKS):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                time.sleep(0.01)
        os.close(self._lock)
        self._lock = None
        raise UsageError(f"{self.path}: another process is working in this run")

    def unlock(self) -> None:
        """Let others in again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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
    name = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.")
    return name[:200] or "run"


def write_atomically(path: Path, content: str) -> None:
    """Write the file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
