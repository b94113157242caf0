"""What the tests of searches share: tune.py in this process, with configs of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deblur.cli import CONFIGS
from tests.conftest import TINY

# One searched setting, in trials of a second.
SHORT = (*TINY, "search=training", "loss=l1", "scheduler.warmup=0.1", "optimizer.weight_decay=0.0", "search.name=mine")


@pytest.fixture
def configs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of configs/ that this process takes for the real one: a search writes its best settings there."""
    copy = tmp_path_factory.mktemp("configs") / "configs"
    shutil.copytree(CONFIGS, copy)
    for module in ("deblur.cli", "deblur.search.plan", "deblur.search.experiment"):
        monkeypatch.setattr(f"{module}.CONFIGS", copy)
    return copy


@pytest.fixture
def tune(door, configs):
    """Call tune.py in this process, in an empty folder, with the tiny data."""

    def call(*arguments: str):
        return door(*arguments, config="tune", task="deblur.search.tune:tune")

    return call
