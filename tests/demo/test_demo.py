"""The door: what is typed wrong, which runs are offered, and the page itself where Gradio is installed."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from deblur.cli import settings_of
from deblur.demo.demo import page_served
from deblur.demo.runs import Choice, Runs, choose_runs
from deblur.errors import UsageError
from tests.conftest import ROOT
from tests.demo.browser import CHROMIUM, browser
from tests.training.test_weights import made_run, publish

TASK = {"config": "demo", "task": "deblur.demo.demo:demo"}
STROKES = json.dumps([[[0.3, 0.2], [0.7, 0.2], [0.45, 0.8]]])
PRETRAINED = ROOT / "outputs/pretrained"
LOOKED_UP = set()  # machines that this process has asked for while it served the page


@pytest.fixture
def demo(door, monkeypatch):
    """The door, as if Gradio were installed."""
    monkeypatch.setattr("deblur.demo.demo.find_spec", lambda name: object())
    return partial(door, **TASK)


def test_without_gradio_it_says_how_to_install_it(door, monkeypatch):
    monkeypatch.setattr("deblur.demo.demo.find_spec", lambda name: None)
    ended = door(**TASK)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line == 'error: the page needs gradio: pip install -e ".[demo]"'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs=nowhere"], ["runs=nowhere", "no run"]),
        (["runs=a b,c=d"], ["runs=a b", "no run"]),
        (["runs=,"], ["runs=,", "separated by commas"]),
        (["runs=7"], ["runs=7", "no run"]),
        (["host=http://here"], ["host=http://here", "an address of this machine"]),
        (["host=null"], ["host=null"]),
        (["host=192.0.2.1"], ["host=192.0.2.1", "cannot be opened"]),
        (["port=0"], ["port=0", "1 to 65535"]),
        (["open=maybe"], ["open=maybe", "true or false"]),
        (["upload_mb=0"], ["upload_mb=0", "> 0"]),
        (["longest_side=9"], ["longest_side=9", "64 to 4096"]),
        (["seed=-1"], ["seed=-1", ">= 0"]),
        (["accelerator=abacus"], ["accelerator=abacus"]),
        (["prot=8000"], ["prot", "port"]),
        (["-m"], ["one thing at a time"]),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_one_line_and_opens_nothing(demo, tmp_path, arguments, said):
    ended = demo("open=false", *arguments) if "open=maybe" not in arguments else demo(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    (line,) = ended.err.strip().splitlines()
    for words in said:
        assert words in line
    assert list(tmp_path.iterdir()) == []


def test_the_pretrained_runs_are_offered_and_the_newest_that_can_be_used(tmp_path, tiny_root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs = Path("outputs")
    for number in range(3):
        run = made_run(outputs / "cnn" / str(number), tiny_root)
        os.utime(run / "results.json", (number, number))
    (run / "checkpoints/best.ckpt").unlink()
    swept = made_run(outputs / "sweeps/one/seed=1", tiny_root)
    os.utime(swept / "results.json", (99, 99))
    choices = choose_runs(None)
    assert [choice.path for choice in choices] == [
        *(str(PRETRAINED / name) for name in ("photographs", "shake", "tremor")),
        "outputs/sweeps/one/seed=1",
        "outputs/cnn/1",
        "outputs/cnn/0",
    ]
    assert [(choice.channels, choice.digits) for choice in choices[:2]] == [(3, False), (1, True)]


def test_runs_that_are_named_are_offered_alone_and_only_they_can_be_asked_for(tmp_path, tiny_root):
    one, other = (str(made_run(tmp_path / name, tiny_root)) for name in ("a=b, c", "other"))
    assert [choice.path for choice in choose_runs(one)] == [one]
    choices = choose_runs(f"{other},{PRETRAINED / 'photographs'}")
    assert [choice.path for choice in choices] == [other, str(PRETRAINED / "photographs")]
    runs = Runs(choices, torch.device("cpu"))
    assert runs.network(other) is runs.network(other)
    with pytest.raises(UsageError, match="none of those on offer"):
        runs.network(one)


def test_a_run_that_fits_the_image_is_chosen_where_there_is_one():
    runs = Runs([Choice("a", 3, False), Choice("b", 1, True), Choice("c", 1, True)], torch.device("cpu"))
    assert [runs.fitting(True), runs.fitting(False), runs.fitting(True, "c"), runs.fitting(False, "c")] == list("baca")
    only = Runs([Choice("a", 3, False), Choice("b", 3, False)], torch.device("cpu"))
    assert [only.fitting(True), only.fitting(True, "b")] == ["a", "b"]


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_root):
    """A page with runs of tiny networks, one of them of one size; skipped where Gradio is not installed."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("runs")
    digits = publish(made_run(folder / "made", tiny_root), folder / "digits")
    fixed = made_run(folder / "fixed", tiny_root, "model=mlp", "model.width=8")
    settings, _ = settings_of("demo", ["accelerator=cpu", "upload_mb=0.2"])
    settings["runs"] = f"{digits},{fixed},{PRETRAINED / 'photographs'}"
    find = socket.getaddrinfo

    def noted(host, *rest, **more):
        LOOKED_UP.add(host)
        return find(host, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", noted)
        with page_served(settings) as page:
            yield page


@pytest.fixture(scope="module")
def client(served):
    gradio_client = pytest.importorskip("gradio_client")
    before = set(LOOKED_UP)
    made = gradio_client.Client(served.address, verbose=False, analytics_enabled=False)
    LOOKED_UP.intersection_update(before)  # this client asks others when it is made; the page is what is tested
    return made


def shown(client, **changed) -> str:
    run = next(choice for choice in choices_of(client) if choice.endswith("digits"))
    asked = {"source": "drawing", "drawing": STROKES, "run": run, "blur": "shake", "length": 9, "noise": 0, "seed": 3}
    return client.predict(*(asked | changed).values(), api_name="/show")


def choices_of(client) -> list[str]:
    (run,) = (part for part in client.config["components"] if part["props"].get("elem_id") == "run")
    return [path for _, path in run["props"]["choices"]]


def pictures(text: str) -> dict[str, np.ndarray]:
    found = re.findall(r'alt="([^"]*)" src="data:image/png;base64,([^"]*)"', text)
    return {name: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for name, data in found}


def refused(call) -> str:
    """What the page shows; if Gradio's own checks refuse it before ours, as if it were ours."""
    try:
        return call()
    except pytest.importorskip("gradio_client").exceptions.AppError:
        return "deblur-error"


def send(client, file: Path) -> str:
    handle_file = pytest.importorskip("gradio_client").handle_file
    return client.predict(handle_file(str(file)), api_name="/take")


def test_a_drawing_is_blurred_and_restored_and_the_seed_decides_how(client):
    text = shown(client)
    assert list(pictures(text)) == ["sharp", "blurred", "restored", "trajectory", "PSF"]
    assert pictures(text)["sharp"].shape == (28, 28)
    assert len(re.findall(r"PSNR [\d.]+ dB, SSIM [\d.]+", text)) == 2
    assert shown(client) == text
    assert shown(client, seed=4) != text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"drawing": ""}, "the board is empty"),
        ({"drawing": "x"}, "drawing: cannot be read"),
        ({"length": 40}, "length=40: must be at most 26"),
        ({"source": "picture"}, "picture: there is none"),
    ],
    ids=str,
)
def test_what_cannot_be_shown_is_said_on_the_page(client, changed, said):
    text = shown(client, **changed)
    assert "deblur-error" in text
    assert said in text


@pytest.mark.parametrize("changed", [{"run": "/etc"}, {"blur": "kernels"}, {"length": 1e6}, {"seed": -1}], ids=str)
def test_what_the_page_does_not_offer_is_refused_by_the_server(client, changed):
    assert "deblur-error" in refused(lambda: shown(client, **changed))


def test_a_picture_that_is_sent_is_read_and_removed(client, served, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    assert pictures(send(client, tmp_path / "a.png"))["a.png"].shape == (60, 90, 3)
    assert not [file for file in served.folder.rglob("*") if file.is_file() and file.stat().st_size]
    made = pictures(shown(client, source="picture", run=choices_of(client)[2], blur="none"))
    assert list(made)[:2] == ["blurred", "restored"]
    assert made["restored"].shape == (60, 90, 3)
    assert "does not take the picture" in shown(client, source="picture", run=choices_of(client)[1])


def test_a_file_that_is_no_picture_or_too_large_is_not_taken(client, served, tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    assert "a.png: cannot be read as a picture" in send(client, tmp_path / "a.png")
    assert "picture: there is none" in shown(client, source="picture")
    (tmp_path / "b.png").write_bytes(b"x" * 300_000)
    with pytest.raises(Exception, match=r"(?i)too large|exceed|413|size"):
        send(client, tmp_path / "b.png")
    assert not [file for file in served.folder.rglob("*") if file.is_file() and file.stat().st_size]


def test_other_files_of_the_machine_are_neither_read_nor_removed(served, tmp_path):
    Image.new("L", (40, 40)).save(tmp_path / "mine.png")
    payload = {"path": str(tmp_path / "mine.png"), "meta": {"_type": "gradio.FileData"}}
    address = f"{served.address}gradio_api/call/take"  # the client would send the file first
    request = urllib.request.Request(address, json.dumps({"data": [payload]}).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}", timeout=30) as answer:
        told = answer.read().decode()
    assert "event: error" in told or "was not sent to this page" in told
    assert "base64" not in told
    assert (tmp_path / "mine.png").is_file()


def test_only_this_machine_reaches_the_page_and_it_counts_nothing(served, client):
    place = urlsplit(served.address)
    assert place.hostname == "127.0.0.1"
    assert not served.open_to_others
    assert client.config["analytics_enabled"] is False
    for headers, status in [({}, 200), ({"Host": "elsewhere.example"}, 403), ({"Origin": "http://elsewhere"}, 403)]:
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
        connection.request("GET", "/config", headers=headers)
        assert connection.getresponse().status == status
        connection.close()
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex((own, place.port)) != 0


def test_no_other_machine_is_asked_for_anything(client):
    shown(client)
    assert {os.fsdecode(host) for host in LOOKED_UP if host} <= {"127.0.0.1", "localhost"}


def test_files_of_the_machine_are_not_served(served):
    for file in (ROOT / "pyproject.toml", "pyproject.toml", "/etc/hostname"):
        with pytest.raises(urllib.error.HTTPError, match=r"403|404"):
            urllib.request.urlopen(f"{served.address}gradio_api/file={file}", timeout=10)


def test_a_port_that_is_taken_is_one_line(demo):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ended = demo("open=false", "accelerator=cpu", f"port={number}")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert f"host=127.0.0.1 port={number}: cannot be opened (Address already in use)" in line


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_opened_until_it_is_ended_and_leaves_nothing(tmp_path, shell_environment, number):
    pytest.importorskip("gradio")
    command = [sys.executable, ROOT / "scripts/demo.py", "open=false", "accelerator=cpu"]
    environment = shell_environment | {"TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process:
        line = process.stdout.readline()
        assert re.fullmatch(r"page: http://127.0.0.1:\d+/ \(Ctrl-C ends it\)\n", line), process.stderr.read()
        process.send_signal(number)
        try:
            rest = process.communicate(timeout=120)
        finally:
            process.kill()
    assert rest == ("", "")
    assert process.returncode == 0
    assert not list(tmp_path.glob("deblur-demo-*"))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_in_a_browser_a_digit_is_drawn_and_a_picture_dropped_and_the_result_seen(served, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    names = "[...document.querySelectorAll('#result img')].map((image) => image.alt).join()"
    with browser(tmp_path / "profile") as page:
        page.open(served.address)
        left, top, side, _ = page.place("#board canvas")
        page.drag([(left + x * side, top + y * side) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.45, 0.8))])
        page.click("#go")
        page.find(f"{names} == 'sharp,blurred,restored,trajectory,PSF'")
        assert re.search(r"PSNR [\d.]+ dB, SSIM [\d.]+", page.find("document.querySelector('#result').innerText"))
        page.click("input[value=picture]")
        page.upload("#picture input[type=file]", tmp_path / "a.png")
        page.find(f"{names} == 'a.png'")
        page.click("#go")
        page.find(f"{names}.startsWith('sharp,blurred,restored')")
        time.sleep(0.5)
        assert all(url.startswith((served.address, "data:", "blob:", "about:")) for url in page.requested)
