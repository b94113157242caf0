"""Folders: what lies in those that are read, and whether one can be written to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deblur.errors import UsageError


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files at any depth of a folder with one of these suffixes, in small letters, in the order of their paths.

    See `folders_in` for what is followed and what is left out.
    """
    files = (place / name for place, names in _walk(folder) for name in names if not name.startswith("."))
    return sorted(file for file in files if file.suffix.lower() in suffixes and file.is_file())


def folders_in(folder: Path) -> list[Path]:
    """The folder, and those in it at any depth, in the order of their paths.

    Links to folders are followed, unless back into a folder that they lie in. Names that begin with a dot are left out:
    what systems put beside the user's own files, macOS's `._IMG.jpg` for one.
    """
    return sorted(place for place, _ in _walk(folder))


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    around = {str(folder): {os.path.realpath(folder)}}  # of each folder: the real paths of it and those that it lies in
    for place, folders, files in os.walk(folder, followlinks=True):
        inner = {name: os.path.join(place, name) for name in folders if not name.startswith(".")}
        real = {name: os.path.realpath(path) for name, path in inner.items()}
        folders[:] = [name for name in inner if real[name] not in around[place]]
        around |= {inner[name]: around[place] | {real[name]} for name in folders}
        yield Path(place), files


def try_folder(folder: Path) -> None:
    """Refuses a folder that cannot be made or written, before hours of computing; leaves nothing behind.

    Raises:
        UsageError: it cannot.
    """
    missing = []
    for path in (folder, *folder.absolute().parents):
        if path.exists():
            break
        missing.append(path)
    if not path.is_dir():
        raise UsageError(f"output={folder}: must be a folder, {'this' if path == folder else path} is a file")
    with writing_to(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        finally:
            for made in missing:
                with suppress(OSError):
                    made.rmdir()


@contextmanager
def writing_to(path: Path, key: str = "output") -> Iterator[None]:
    """Within the block, what the system refuses is one line, which names the path and the setting it was typed for."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{key}={path}: cannot be written ({error.strerror or error})") from error
