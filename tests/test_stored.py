"""Files of others are read in bounds, to plain values."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur.stored import check_plain, dump_yaml, read_json, read_yaml

_WORDS = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=9)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(_WORDS, _VALUES, max_size=4))
def test_what_is_written_is_read_again(content):
    from yaml import load

    from deblur.stored import _PlainLoader

    assert load(dump_yaml(content), _PlainLoader) == content


def test_a_list_that_stands_in_two_places_is_written_out():
    twice = [1, 2]
    assert "&" not in dump_yaml({"a": twice, "b": twice})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x", "anchor"),
        ("a: !!python/name:os.system", "python/name"),
        ("a: 2001-99-99", "month"),
        ("a: 2001-01-01", "date"),
        ("1: a", "no word"),
        ("[" * 5000, "deep"),
        ("x" * 2**21, "larger"),
        ("a: \xff".encode("latin-1"), "utf-8"),
    ],
    ids=["alias", "tag", "no date", "date", "key", "nested", "large", "no text"],
)
def test_yaml_of_other_things_is_refused(tmp_path, text, said):
    file = tmp_path / "file.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said) as refused:
        read_yaml(file)
    assert "\n" not in str(refused.value)


def test_json_nested_too_deep_is_refused(tmp_path):
    for depth in (60, 100_000):
        (tmp_path / "file.json").write_text("[" * depth + "]" * depth)
        with pytest.raises(ValueError, match="deep"):
            read_json(tmp_path / "file.json")


def test_values_that_stand_in_many_places_count_in_each():
    layer: object = "x"
    for _ in range(12):
        layer = [layer] * 10
    with pytest.raises(ValueError, match="more than"):
        check_plain(layer)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "file.json")
    with pytest.raises(ValueError, match="Expecting value"):
        read_json(tmp_path / "file.json")
