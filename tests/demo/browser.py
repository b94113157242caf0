"""A headless Chromium, driven by the DevTools protocol over two pipes: no driver and no other package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of a browser.

    Attributes:
        requested: addresses that the page has asked for.
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._number, self._rest = 0, b""
        self._session: str | None = None
        self.requested: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Network", "DOM"):
            self.call(f"{part}.enable")

    def call(self, method: str, seconds: float = 30, **arguments: Any) -> dict[str, Any]:
        """What the browser answers."""
        self._number += 1
        session = {} if self._session is None else {"sessionId": self._session}
        os.write(self._send, json.dumps({"id": self._number, "method": method, "params": arguments} | session).encode())
        os.write(self._send, b"\0")
        until = time.monotonic() + seconds
        while True:
            message = self._message(until)
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return message["result"]

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Go to the address, in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)

    def find(self, script: str, seconds: float = 60) -> Any:
        """The value of a JavaScript expression, as soon as it is something."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
            value = answer["result"].get("value")
            if value:
                return value
            time.sleep(0.1)
        raise TimeoutError(f"{script}: nothing within {seconds} s")

    def click(self, selector: str) -> None:
        """Press the middle of an element."""
        x, y, width, height = self.place(selector)
        self.drag([(x + width / 2, y + height / 2)])

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move it along the others, and release it."""
        for kind, (x, y) in [("mousePressed", points[0]), *(("mouseMoved", point) for point in points)]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        x, y = points[-1]
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def place(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, in view and at rest."""
        before, now = None, self._place(selector)
        while now != before:
            time.sleep(0.5)
            before, now = now, self._place(selector)
        return now

    def _place(self, selector: str) -> tuple[float, float, float, float]:
        return tuple(
            self.find(
                f"(() => {{const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
                "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
                "return b.width ? [b.left, b.top, b.width, b.height] : null})()"
            )
        )

    def upload(self, selector: str, file: Path) -> None:
        """Choose a file in an input element."""
        self.find(f"!!document.querySelector({json.dumps(selector)})")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def screenshot(self, file: Path) -> None:
        """Write a PNG of the whole page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(picture["data"]))

    def _message(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], max(until - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._receive, 2**20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Within the block, a browser that keeps what it keeps in a folder."""
    reads, send = os.pipe()
    receive, writes = os.pipe()
    # The protocol's pipes are the browser's descriptors 3 and 4.
    command = ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "-", CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(reads, writes), **quiet)
    os.close(reads)
    os.close(writes)
    try:
        yield Browser(send, receive)
    finally:
        os.close(send)
        os.close(receive)
        process.terminate()
        process.wait(timeout=20)
