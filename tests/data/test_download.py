"""Downloads, from servers on this machine: the first mirror that answers is taken, silence ends at the deadline."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from deblur.blur import Line
from deblur.data import download
from deblur.data.digits import MNIST
from deblur.data.download import download_idx, first_to_answer
from deblur.errors import UsageError

FILES = {
    "train-images-idx3-ubyte": np.arange(12 * 28 * 28).reshape(12, 28, 28) % 251,
    "train-labels-idx1-ubyte": np.arange(12) % 10,
    "t10k-images-idx3-ubyte": np.arange(5 * 28 * 28).reshape(5, 28, 28) % 241,
    "t10k-labels-idx1-ubyte": np.arange(5),
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the four files of a tiny MNIST, and an empty file."""
    folder = tmp_path_factory.mktemp("mirror")
    for name, array in FILES.items():
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        content = gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)
        (folder / f"{name}.gz").write_bytes(content)
    (folder / "empty").touch()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture
def closed() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture
def dataset(mirror: str, silent: str, tmp_path_factory: pytest.TempPathFactory) -> type[datasets.MNIST]:
    """torchvision's MNIST with tiny files, on one mirror that is silent and one that answers."""
    resources = []
    for name, array in FILES.items():
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        content = gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)
        resources.append((f"{name}.gz", hashlib.md5(content).hexdigest()))
    return type("MNIST", (datasets.MNIST,), {"mirrors": [silent, mirror], "resources": resources})


def files_under(root: Path) -> list[str]:
    return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())


def test_silent_servers_are_given_up_at_the_deadline(silent):
    start = time.monotonic()
    assert first_to_answer([silent + "a", silent + "b"], seconds=0.5) is None
    assert time.monotonic() - start < 5  # without a deadline it would wait for ever


def test_name_that_is_never_resolved_is_given_up_at_the_deadline(monkeypatch):
    over = threading.Event()

    def hang(*_: object, **__: object) -> None:  # the system's resolver knows no timeout
        over.wait(30)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.monotonic()
    assert first_to_answer(["http://nowhere.invalid/x"], seconds=0.5) is None
    assert time.monotonic() - start < 10
    over.set()


def test_server_that_stops_within_its_headers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
                connection.recv(1)
                time.sleep(3)

        threading.Thread(target=answer, daemon=True).start()
        assert first_to_answer([f"http://127.0.0.1:{server.getsockname()[1]}/"], seconds=0.5) is None


def test_the_answering_one_of_two_is_taken(silent, mirror):
    wanted = mirror + "train-labels-idx1-ubyte.gz"
    assert first_to_answer([silent + "x", wanted]) == wanted
    assert first_to_answer([wanted, silent + "x"]) == wanted


def test_refusals_are_no_answers(closed, mirror):
    wanted = mirror + "train-labels-idx1-ubyte.gz"
    bad = [closed + "x", mirror + "missing", mirror + "empty", "no address", "http://"]
    assert first_to_answer(bad, seconds=5) is None
    assert first_to_answer([*bad, wanted], seconds=5) == wanted
    assert first_to_answer([]) is None


def test_download_brings_the_files_of_the_answering_mirror(dataset, tmp_path):
    root = tmp_path / "new" / "data"
    assert download_idx(dataset, root)
    names = sorted(f"MNIST/raw/{name}{suffix}" for name in FILES for suffix in ("", ".gz"))
    assert files_under(root) == names
    assert [entry.name for entry in root.iterdir()] == ["MNIST"]  # no temporary folder


def test_download_leaves_the_default_timeout_and_other_files(dataset, tmp_path):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw" / "notes.txt").write_text("mine")
    before = socket.getdefaulttimeout()
    assert download_idx(dataset, tmp_path)
    assert socket.getdefaulttimeout() == before
    assert (tmp_path / "MNIST" / "raw" / "notes.txt").read_text() == "mine"


def test_download_with_a_wrong_checksum_leaves_nothing(dataset, tmp_path):
    name, _ = dataset.resources[-1]
    dataset.resources = [*dataset.resources[:-1], (name, "0" * 32)]
    assert not download_idx(dataset, tmp_path)
    assert files_under(tmp_path) == []
    assert socket.getdefaulttimeout() is None


def test_download_of_a_missing_file_leaves_nothing(dataset, tmp_path):
    dataset.resources = [*dataset.resources[:-1], ("missing.gz", "0" * 32)]
    assert not download_idx(dataset, tmp_path)
    assert files_under(tmp_path) == []


def test_download_without_network_does_not_even_make_the_root(dataset, closed, tmp_path):
    dataset.mirrors = [closed]
    assert not download_idx(dataset, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_datamodule_downloads_what_is_missing(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MNIST", dataset)
    images = MNIST(Line(3), root=str(tmp_path), val_size=2).images
    assert images.source == "files"
    assert [len(images.train), len(images.val), len(images.test)] == [10, 2, 5]
    np.testing.assert_array_equal(images.test[:, 0].numpy(), FILES["t10k-images-idx3-ubyte"])
    monkeypatch.setattr(download, "first_to_answer", lambda *_: pytest.fail("asked the network again"))
    again = MNIST(Line(3), root=str(tmp_path), val_size=2).images
    assert torch.equal(again.train, images.train)


def test_root_that_cannot_be_made_is_a_usage_error(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MNIST", dataset)
    (tmp_path / "file").touch()
    root = os.path.join(tmp_path, "file", "data")
    with pytest.raises(UsageError, match=r"data\.root=.*cannot be stored"):
        _ = MNIST(Line(3), root=root).images
