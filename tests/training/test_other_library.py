"""A network of another library, by its import path in a config alone: trained, evaluated, used and resumed."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

import deblur
from deblur.errors import UsageError
from tests.conftest import TINY, only_run, results

NETWORK = ["model=deepinv_unet", "model.channels_per_scale=[4,8]"]
LINES = [*NETWORK, *(line for line in TINY if not line.startswith("model"))]


@pytest.mark.skipif(importlib.util.find_spec("deepinv") is None, reason="deepinv is not installed")
def test_it_is_trained_evaluated_used_and_resumed_where_its_package_is_allowed(door, tmp_path):
    ended = door(*LINES)
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    before = results(run)["metrics"]["test/psnr"]

    refused = door(f"run={run}", config="evaluate", task="deblur.evaluation.evaluate:evaluate")
    assert refused.code == 2
    assert "model._target_=deepinv.models.UNet: not trusted; allow=[deepinv]" in refused.err
    found = door(
        f"run={run}", "allow=[deepinv]", "metrics=[psnr]", config="evaluate", task="deblur.evaluation.evaluate:evaluate"
    )
    assert found.code == 0, found.err
    assert f"{before:.2f}" in found.out

    with pytest.raises(UsageError, match="not trusted"):
        deblur.load(run)
    network, blurred = deblur.load(run, allow=["deepinv"]), torch.rand(2, 1, 33, 30)
    assert type(network.network).__module__.startswith("deepinv.")
    assert network(blurred).shape == blurred.shape

    refused = door(f"resume={run}", "trainer.max_epochs=3")
    assert refused.code == 2
    resumed = door(f"resume={run}", "trainer.max_epochs=3", "allow=[deepinv]")
    assert resumed.code == 0, resumed.err
    assert results(run)["status"] == "finished"
    assert results(run)["metrics"]["test/psnr"] != before


def test_without_its_library_a_line_says_how_to_install_it(door, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "deepinv"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without("deepinv"), *sys.meta_path])
    ended = door(*LINES)
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    assert "model._target_=deepinv.models.UNet: there is no package deepinv" in line
    assert "pip install -e '.[bench]' installs it" in line
    assert not list(tmp_path.iterdir())


class Without:
    """A finder that says of a package that it is not there."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
