"""A space is ranges and choices, each checked, each written as it would be typed."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.errors import UsageError
from deblur.search.space import Entry, override_text, read_space

TEXT = st.text(st.characters(exclude_characters="$", exclude_categories=["C"]))  # ${} is OmegaConf's
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT


@settings(max_examples=60, deadline=None)
@given(VALUES | st.lists(VALUES, max_size=3))
def test_hydra_reads_every_value_back_as_it_was(value):
    parsed = OverridesParser.create().parse_override(f"key={override_text(value)}").value()

    def plain(item):
        return [plain(part) for part in item] if isinstance(item, list) else getattr(item, "text", item)

    assert plain(parsed) == value


def test_a_space_holds_ranges_and_choices():
    space = {
        "optimizer.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "model.width": {"type": "int", "low": 16, "high": 64, "step": 16},
        "model.widths": {"type": "categorical", "choices": [[16, 32], None, "a b"]},
    }
    assert read_space(space) == [
        Entry("optimizer.lr", "float", 1e-4, 1e-2, log=True),
        Entry("model.width", "int", 16, 64, step=16),
        Entry("model.widths", "categorical", choices=("[16,32]", "null", "'a b'")),
    ]
    assert [entry.ends for entry in read_space(space)][:2] == [("0.0001", "0.01"), ("16", "64")]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "float", "low": 2, "high": 1}, ["low=2", "at most high", "1"]),
        ({"type": "int", "low": 2, "high": 1}, ["low=2", "at most high"]),
        ({"type": "float", "low": 0, "high": 1, "log": True}, ["low=0", "greater than 0", "log"]),
        ({"type": "int", "low": -1, "high": 1, "log": True}, ["low=-1", "greater than 0"]),
        ({"type": "float", "low": 0}, ["high", "must be given"]),
        ({"type": "float", "low": "x", "high": 1}, ["low=x", "a number"]),
        ({"type": "float", "low": 0, "high": float("inf")}, ["high=inf", "a number"]),
        ({"type": "int", "low": 0.5, "high": 1}, ["low=0.5", "whole number"]),
        ({"type": "int", "low": 1, "high": 8, "step": 2}, ["high=8", "steps of 2"]),
        ({"type": "int", "low": 1, "high": 8, "step": 0}, ["step=0"]),
        ({"type": "int", "low": 1, "high": 8, "step": 7, "log": True}, ["step=7", "log"]),
        ({"type": "float", "low": 0, "high": 1, "log": "yes"}, ["log=yes", "true or false"]),
        ({"type": "float", "lo": 0, "high": 1}, ["lo:", "did you mean low", "low, high, log"]),
        ({"type": "categorical", "choices": []}, ["choices=[]", "at least one"]),
        ({"type": "categorical", "choices": "abc"}, ["choices=abc", "list"]),
        ({"type": "categorical", "choices": [1, 1]}, ["choices=[1,1]", "different"]),
        ({"type": "categorical", "choices": [{"a": 1}]}, ["choices=", "list"]),
        ({"type": "categorical"}, ["choices", "must be given"]),
        ({"type": "double", "low": 0, "high": 1}, ["type=double", "float, int, categorical"]),
        ({"low": 0, "high": 1}, ["type=null", "float, int, categorical"]),
        (3, ["key=3", "low and high or choices"]),
    ],
)
def test_an_entry_that_is_no_range_and_no_choice_is_refused_by_name(entry, said):
    with pytest.raises(UsageError) as refused:
        read_space({"key": entry})
    for words in ("search.space.key", *said):
        assert words in str(refused.value)


@pytest.mark.parametrize("space", [{}, None, "abc"])
def test_an_empty_space_is_refused(space):
    with pytest.raises(UsageError, match=r"search\.space"):
        read_space(space)
