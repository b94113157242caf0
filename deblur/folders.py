"""Folders that results are written to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deblur.errors import UsageError


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
