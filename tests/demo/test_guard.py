"""Who may call the page, and what its answers forbid the browser."""

from __future__ import annotations

import asyncio

import pytest

from deblur.demo.guard import LOOPBACK, Guard


def answer(headers: dict[str, str], hosts=LOOPBACK, kind: str = "http") -> list[dict]:
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(Guard(app, hosts)(scope, None, send))
    return sent


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:7860"},
        {"host": "localhost:7860", "origin": "http://localhost:7860"},
        {"host": "127.0.0.1"},
    ],
)
def test_the_machine_itself_is_answered_and_told_to_fetch_nothing_from_elsewhere(headers):
    (start,) = answer(headers)
    assert start["status"] == 200
    policy = dict(start["headers"])[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "elsewhere.example:7860"},
        {"host": "127.0.0.1.elsewhere.example"},
        {"host": "localhost:7860", "origin": "http://elsewhere.example"},
        {"host": "localhost:7860", "origin": "http://localhost:8000"},
        {"host": "localhost:7860", "origin": "null"},
        {"host": "a@localhost"},
        {},
    ],
)
def test_other_names_and_pages_of_other_sites_are_refused(headers):
    assert answer(headers)[0]["status"] == 403
    assert answer(headers, kind="websocket")[0]["type"] == "websocket.close"


def test_a_page_that_is_open_to_others_has_any_name_but_takes_nothing_from_other_sites():
    assert answer({"host": "lab.example:7860", "origin": "http://lab.example:7860"}, hosts=())[0]["status"] == 200
    assert answer({"host": "lab.example", "origin": "http://elsewhere.example"}, hosts=())[0]["status"] == 403
