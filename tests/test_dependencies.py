"""Every dependency has a lower and an upper bound, and what is installed is within them."""

from __future__ import annotations

import importlib.metadata
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_NEEDED = [Requirement(text) for text in _PROJECT["dependencies"]]
_EXTRAS = [
    Requirement(text)
    for texts in _PROJECT["optional-dependencies"].values()
    for text in texts
    if not text.startswith("deblur[")
]


@pytest.mark.parametrize("requirement", [*_NEEDED, *_EXTRAS], ids=str)
def test_a_dependency_is_bounded(requirement):
    kinds = {bound.operator for bound in requirement.specifier}
    assert kinds in ({">=", "<"}, {"=="})


@pytest.mark.parametrize("requirement", _NEEDED, ids=str)
def test_what_is_installed_is_within_its_bounds(requirement):
    assert importlib.metadata.version(requirement.name) in requirement.specifier
