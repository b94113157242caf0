"""Processes that are killed, that want the same folder, and that are told to stop."""

from __future__ import annotations

import pytest

from deblur.faults import crowd, kill, memory
from deblur.faults.row import Setting


@pytest.mark.slow
def test_a_killed_training_is_resumed_to_the_same_weights(tmp_path, tiny_root):
    (row,) = kill.run(Setting(tmp_path, tiny_root, count=1))
    assert (row.tried, row.failures) == (1, [])


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path, tiny_root):
    row = crowd.twenty(Setting(tmp_path, tiny_root, count=1), at_once=4)
    assert (row.tried, row.failures) == (4, [])


@pytest.mark.slow
def test_a_run_that_is_trained_is_refused_to_others_until_its_process_has_gone(tmp_path, tiny_root):
    row = crowd.two_for_one(Setting(tmp_path, tiny_root, count=1))
    assert (row.tried, row.failures) == (2, [])


def test_memory_is_drawn_over_epochs():
    points = [{"memory": 500.0 + n, "files": 20, "events": 3000.0 * n} for n in range(20)]
    axes = memory.draw(points).axes
    assert [list(axis.lines[0].get_ydata()) for axis in axes] == [
        [point["memory"] for point in points],
        [20] * 20,
        [3.0 * n for n in range(20)],
    ]


def test_growth_of_memory_is_told(tmp_path, tiny_root, monkeypatch):
    points = [{"memory": 500.0 + n, "files": 20, "events": 3000.0 * n} for n in range(100)]
    monkeypatch.setattr(memory, "watch", lambda setting: (points, 0))
    (row,) = memory.run(Setting(tmp_path, tiny_root, count=100))
    assert row.failures == ["memory grows by less than 2 %: grows by 15.8%"]
