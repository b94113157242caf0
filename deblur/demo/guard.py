"""What stands between the network and the page: requests from elsewhere are refused, and the page fetches nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost")
_POLICY = (
    b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; base-uri 'self'; "
    b"form-action 'self'"
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """ASGI middleware: refuses other names of this machine and pages of other sites, and keeps browsers from fetching.

    Other names, so that a site whose name was made to lead to this machine reads nothing; pages of other sites, so that
    none of them sends anything; and the policy, so that the page works, and tells nobody, without a network.

    Args:
        app: behind it.
        hosts: names by which the page may be called; empty for any.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], hosts: Collection[str] = ()) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        called = urlsplit(f"//{host}").hostname if _is_plain(host) else None
        elsewhere = origin is not None and origin.partition("://")[2] != host
        if elsewhere or (self.hosts and called not in self.hosts):
            await _refuse(scope, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", _POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _is_plain(host: str) -> bool:
    return all(character.isalnum() or character in ".-:" for character in host)


async def _refuse(scope: Message, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"only for pages of this address"})
