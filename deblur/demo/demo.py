"""`python scripts/demo.py`: a local page to blur drawings and pictures, and to restore them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deblur.demo.guard import LOOPBACK, Guard
from deblur.demo.pictures import CSS
from deblur.demo.runs import Runs, choose_runs
from deblur.demo.upload import MEGABYTE
from deblur.errors import ArgumentError, UsageError, check_flag, check_integer, check_number, shown
from deblur.training.restorer import choose_device
from deblur.training.settings import check_keys, section

log = logging.getLogger(__name__)

_KEYS = ("runs", "host", "port", "open", "upload_mb", "longest_side", "seed", "accelerator", "allow")
_SESSIONS = 100  # whose pictures are remembered
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}


def demo(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Open the page and serve it until Ctrl-C or SIGTERM; returns 0.

    Raises:
        UsageError: a setting is refused, Gradio is not installed, or the port is taken.
    """
    check_keys(settings, _KEYS)
    if find_spec("gradio") is None:
        raise UsageError('the page needs gradio: pip install -e ".[demo]"')
    with section(""):
        open_it = check_flag("open", settings["open"])
    # Both end the page in the same way: what was sent is removed. In the background a shell may have Ctrl-C's ignored.
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in ends]
    try:
        with suppress(KeyboardInterrupt), page_served(settings) as page:
            print(f"page: {page.address} (Ctrl-C ends it)", flush=True)
            if page.open_to_others:
                log.warning("host=%s: everybody who reaches this machine can use the page", settings["host"])
            if open_it:
                webbrowser.open(page.address)
            threading.Event().wait()
    finally:
        for number, handler in zip(ends, before, strict=True):
            signal.signal(number, handler)
    return 0


@dataclass(frozen=True)
class Served:
    """A page that is open.

    Attributes:
        address: for a browser.
        folder: where what is sent lies until it is read.
        open_to_others: whether others than this machine can reach it.
    """

    address: str
    folder: Path
    open_to_others: bool


@contextmanager
def page_served(settings: Mapping[str, Any]) -> Iterator[Served]:
    """Within the block, the page is open; nothing that was sent to it stays.

    Args:
        settings: as in configs/demo.yaml.

    Raises:
        UsageError: a setting is refused, or the port is taken.
    """
    with section(""):
        host, port = _host(settings["host"]), settings["port"]
        if port is not None:
            check_integer("port", port, low=1, high=65535)
        upload_mb = check_number("upload_mb", settings["upload_mb"], above=0.0, high=1000.0)
        side = check_integer("longest_side", settings["longest_side"], low=64, high=4096)
        seed = check_integer("seed", settings["seed"], low=0)
    _refuse_taken(host, port)
    device = choose_device(settings["accelerator"])
    runs = Runs(choose_runs(settings["runs"]), device, settings["allow"])
    if settings["runs"] is not None:
        for path in runs.choices:
            runs.network(path)  # what is wrong with it is said now
    local = host in LOOPBACK
    with tempfile.TemporaryDirectory(prefix="deblur-demo-") as folder, _environment(folder, host):
        from gradio.themes import Default
        from starlette.middleware import Middleware

        from deblur.demo.page import build_page

        page = build_page(runs, folder=Path(folder), upload_mb=upload_mb, longest_side=side, seed=seed)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
                footer_links=[],
                max_file_size=int(upload_mb * MEGABYTE),
                app_kwargs={"middleware": [Middleware(Guard, hosts=LOOPBACK if local else ())]},
                state_session_capacity=_SESSIONS,
                theme=Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
                css=CSS,
            )
        except OSError as error:
            raise UsageError(f"host={host} port={shown(port)}: cannot be opened ({shown(error)})") from error
        try:
            yield Served(address, Path(folder), not local)
        finally:
            page.close(verbose=False)


def _host(value: Any) -> str:
    if not isinstance(value, str) or not value or not all(c.isalnum() or c in ".-" for c in value):
        raise ArgumentError("host", value, "an address of this machine, like 127.0.0.1 or 0.0.0.0")
    return value


def _refuse_taken(host: str, port: int | None) -> None:
    """Refuses an address that cannot be had, now: Gradio would try many ports for a while."""
    try:
        socket.create_server((host, port or 0)).close()
    except OSError as error:
        where = f"host={host}" if port is None else f"host={host} port={port}"
        reason = str(error.strerror or error).partition(" (while")[0]  # what is tried, it adds itself
        raise UsageError(f"{where}: cannot be opened ({reason})") from error


@contextmanager
def _environment(folder: str, host: str) -> Iterator[None]:
    """Within the block, Gradio sends nothing anywhere, and puts what it is sent into the folder."""
    around = [os.environ[name] for name in ("no_proxy", "NO_PROXY") if os.environ.get(name)]
    direct = ",".join([*around[:1], "127.0.0.1", "localhost", host])  # it asks itself whether it is there
    changed = {**_QUIET, "GRADIO_TEMP_DIR": folder, "no_proxy": direct, "NO_PROXY": direct}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
