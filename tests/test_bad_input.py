"""What a user types wrong comes back as one line with key, value and what is allowed, exit code 2, and no folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur.faults.commands import IN_A_SHELL, WRONG, complete, in_a_shell, write_wrong_files


@pytest.fixture
def wrong_files(tmp_path: Path, tiny_root: Path) -> None:
    write_wrong_files(tmp_path, tiny_root)


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[" ".join(line) for line, _ in WRONG])
@pytest.mark.usefixtures("wrong_files")
def test_a_wrong_command_line_is_one_line_and_leaves_nothing(door, tmp_path, arguments, said):
    before = sorted(tmp_path.rglob("*"))
    ended = door(*complete(arguments))
    assert ended.code == 2
    assert ended.out == ""
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("error: ")
    for words in said:
        assert words in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(
    '__import__("torch").cuda.is_available() or __import__("torch").backends.mps.is_available()', reason="there is one"
)
@pytest.mark.parametrize("name", ["gpu", "mps"])
def test_an_accelerator_that_is_not_there_is_one_line(door, tmp_path, name):
    ended = door("data.val_size=40", f"trainer={name}")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert f"trainer.accelerator={name}" in ended.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ("evaluate", "deblur.evaluation.evaluate:evaluate"),
        ("restore", "deblur.restoration.restore:restore"),
        ("preview", "deblur.preview:preview"),
        ("export", "deblur.training.export:export"),
        ("publish", "deblur.training.publish:publish"),
    ],
)
def test_a_key_that_another_door_has_is_refused_by_name(door, tmp_path, config, task):
    needed = {"restore": ("run", "input", "output"), "publish": ("run", "output"), "preview": ()}.get(config, ("run",))
    ended = door(*(f"{key}=there" for key in needed), "+outptu=here", config=config, task=task)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("error: outptu=here: no such key; did you mean output?; there are ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [*IN_A_SHELL[::3], ["resume=no=where"]], ids=" ".join)  # scripts/faults.py: all
def test_a_wrong_command_line_in_a_real_shell(tmp_path, tiny_root, arguments):
    ended = in_a_shell(tmp_path, tiny_root, arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
