"""A finished run for the fault tests, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur.faults.tiny import trained_run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    return trained_run(tmp_path_factory.mktemp("whole") / "run", tiny_root)
