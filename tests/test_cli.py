"""The command line: help and configs without torch, paths as typed, sweeps, the preview."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from deblur.cli import door, is_sweep, quote_path
from tests.conftest import ROOT, TINY

_WITHOUT = """
import atexit, os, runpy, sys
@atexit.register
def check():
    if {package!r} in sys.modules:
        os._exit(77)
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path({door!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--help"],
            [
                "model: " + ", ".join(sorted(file.stem for file in (ROOT / "configs/model").glob("*.yaml"))),
                "blur.length",
                "trainer.max_epochs",
                "resume=",
            ],
        ),
        (["--cfg", "job"], ["length: 9", "_target_: deblur.models.UNet", "max_epochs"]),
    ],
    ids=["help", "cfg"],
)
def test_help_and_config_are_shown_without_importing_torch(tmp_path, arguments, said):
    program = _WITHOUT.format(package="torch", door=str(ROOT / "train.py"))
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    for words in said:
        assert words in ended.stdout
    assert "protocol:" not in ended.stdout  # a group of another door
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["evaluate", "restore", "export", "publish", "preview", "demo"])
def test_help_explains_the_settings_of_a_door_and_shows_what_its_groups_add(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        door(name, "deblur.nowhere:nothing")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    lines = (ROOT / f"configs/{name}.yaml").read_text().splitlines()
    own = [line for line in lines if re.match(r"[a-z_]+: .*#", line)]
    assert len(own) >= 2
    assert all(line in shown for line in own)
    assert not re.search(r"^(hydra|defaults):", shown, flags=re.MULTILINE)
    assert ("_target_: deblur.blur.Shake" in shown) == (name == "preview")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("blur.length=-3", "blur.length=-3: must be"),
        ("trainer.max_epochs=long", "trainer.max_epochs=long: must be"),
        ("resume=nowhere", "resume=nowhere: is no run"),
        ("model._target_=os.system", "model._target_=os.system: must be a class"),
    ],
)
def test_wrong_settings_are_refused_before_lightning_is_imported(tmp_path, argument, said):
    program = _WITHOUT.format(package="pytorch_lightning", door=str(ROOT / "train.py"))
    ended = subprocess.run(
        [sys.executable, "-c", program, argument], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: {said}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("resume=outputs/sweeps/a/model=mlp", "resume='outputs/sweeps/a/model=mlp'"),
        ("data.root=/my data/it's", "data.root='/my data/it\\'s'"),
        ("init='already'", "init='already'"),
        ("resume=null", "resume=null"),
        ("blur.length=9", "blur.length=9"),
        ("data.root=/a/b\\", "data.root='/a/b\\\\'"),
        ("data.root='odd", "data.root='\\'odd'"),
        ("+init=${HOME}", "+init='\\${HOME}'"),
    ],
)
def test_paths_are_taken_as_typed(typed, quoted):
    assert quote_path(typed) == quoted


def test_commas_separate_paths_only_in_a_sweep():
    assert quote_path("init=a,b") == "init='a,b'"
    assert quote_path("init=a,b", sweep=True) == "init='a','b'"


def test_a_sweep_is_told_from_questions_about_it():
    assert is_sweep(["train.py", "seed=1,2", "-m"])
    assert is_sweep(["train.py", "--multirun", "seed=1,2"])
    assert not is_sweep(["train.py", "seed=1"])
    assert not is_sweep(["train.py", "-m", "seed=1,2", "--cfg", "job"])


def test_a_data_root_with_odd_characters_is_used_as_typed(door, tmp_path, tiny_root):
    odd = tmp_path / "it's [my], data=1 ü"
    odd.symlink_to(tiny_root)
    ended = door(*TINY, f"data.root={odd}")
    assert ended.code == 0, ended.err


def test_ctrl_c_is_one_line(door, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("deblur.preview.preview", interrupted)
    ended = door(config="preview", task="deblur.preview:preview")
    assert (ended.code, ended.err) == (130, "warning: interrupted by SIGINT\n")


def test_a_preview_that_cannot_be_written_is_one_line(door, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name, said in (
        ("deblur.preview.np.savez_compressed", "pairs=a.npz"),
        ("deblur.preview.draw_blur", "output=a.png"),
    ):
        monkeypatch.setattr(name, full)
        ended = door("data.val_size=40", "pairs=a.npz", "output=a.png", config="preview", task="deblur.preview:preview")
        assert ended.code == 2
        assert ended.err == f"error: {said}: cannot be written (No space left on device)\n"
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_the_preview_draws_a_blur_and_writes_its_pairs(door, tmp_path):
    ended = door(
        "data.val_size=40", "pairs=a/pairs.npz", "output=a/blur.png", config="preview", task="deblur.preview:preview"
    )
    assert ended.code == 0, ended.err
    assert (tmp_path / "a/blur.png").read_bytes().startswith(b"\x89PNG")
    pairs = np.load(tmp_path / "a/pairs.npz")
    assert pairs["sharp"].shape == pairs["blurred"].shape == (40, 1, 28, 28)
    assert pairs["psf"].sum(axis=(1, 2, 3)) == pytest.approx(np.ones(40), abs=1e-5)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("blur.length=-1", "blur.length=-1"),
        ("split=train", "val, test"),
        ("output=new/x.gif", ".png"),
        ("-m", "one thing"),
        ("+foo=1", "foo=1"),
    ],
)
def test_a_wrong_preview_is_one_line(door, tmp_path, argument, said):
    ended = door("data.val_size=40", argument, config="preview", task="deblur.preview:preview")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []
