"""Downloads that give up soon where there is no network, also one that silently drops packets."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import queue
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from torchvision import datasets

DEADLINE_SECONDS = 10.0


def first_to_answer(urls: Sequence[str], seconds: float = DEADLINE_SECONDS) -> str | None:
    """The first of the addresses that starts to send its content, or None when the deadline for all has passed.

    Each is asked in a thread of its own: looking up a name can hang for longer than any timeout of a connection.
    """
    answers: queue.Queue[str | None] = queue.Queue()

    def ask(url: str) -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds) as response:  # noqa: S310  (our own addresses)
                answers.put(url if response.read(1) else None)
        except (OSError, ValueError, http.client.HTTPException):
            answers.put(None)

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    end = time.monotonic() + seconds
    with contextlib.suppress(queue.Empty):
        for _ in urls:
            url = answers.get(timeout=max(end - time.monotonic(), 0.01))
            if url is not None:
                return url
    return None


def download_idx(dataset: type[datasets.MNIST], root: Path) -> bool:
    """Whether the files of torchvision's MNIST-like data set were brought to <root>/<name>/raw.

    They come into a temporary folder and move when they are whole, so that nothing half-made is left.

    Raises:
        OSError: the root cannot be made or written.
    """
    resource = dataset.resources[0][0]
    url = first_to_answer([mirror + resource for mirror in dataset.mirrors])
    if url is None:
        return False
    root.mkdir(parents=True, exist_ok=True)
    chosen = type(dataset.__name__, (dataset,), {"mirrors": [url.removesuffix(resource)]})
    timeout = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
        socket.setdefaulttimeout(DEADLINE_SECONDS)  # torchvision gives its downloads none
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                chosen(folder, download=True)
        except (OSError, RuntimeError, http.client.HTTPException):
            return False
        finally:
            socket.setdefaulttimeout(timeout)
        target = root / dataset.__name__ / "raw"
        target.mkdir(parents=True, exist_ok=True)
        for file in (Path(folder) / dataset.__name__ / "raw").iterdir():
            os.replace(file, target / file.name)
    return True
