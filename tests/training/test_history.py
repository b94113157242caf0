"""The dashboard's scalars of a run, and of what is published of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur.training.logger import HISTORY, read_history


def test_published_run_keeps_its_history(run: Path, tmp_path: Path, door):
    published = tmp_path / "published"
    ended = door(f"run={run}", f"output={published}", config="publish", task="deblur.training.publish:publish")
    assert ended.code == 0, ended.err
    assert (published / HISTORY).is_file()
    assert not list(published.glob("events*"))
    kept, whole = read_history(published), read_history(run)
    assert kept.keys() == whole.keys()
    for name, points in whole.items():
        assert [step for step, _ in kept[name]] == [step for step, _ in points]
        assert [value for _, value in kept[name]] == pytest.approx([value for _, value in points], rel=1e-5)
