"""Small YAML and JSON files that somebody else may have written: read in bounded time and memory, to plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deblur.errors import shown

_MOST_BYTES = 2**20  # a run's settings are some kilobytes
_MOST_ITEMS = 10**6
_DEEPEST = 50  # containers within containers


def read_yaml(file: Path, most_bytes: int = _MOST_BYTES) -> Any:
    """The content of a YAML file as plain values: mappings with words as keys, lists, numbers, words, flags, null.

    Args:
        file: to read.
        most_bytes: of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no YAML, too large, holds other things, or uses anchors: some lines of those can stand for
            more than any memory holds.
    """
    text = _text(file, most_bytes)
    try:
        return check_plain(yaml.load(text, _PlainLoader))  # noqa: S506  (a safe loader, and less than that)
    except RecursionError:
        raise ValueError(f"is nested more than {_DEEPEST} deep") from None
    except Exception as error:  # PyYAML raises many kinds for values that are no dates, numbers or flags
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def read_json(file: Path, most_bytes: int = _MOST_BYTES) -> Any:
    """The content of a JSON file; raises what `read_yaml` does."""
    text = _text(file, most_bytes)
    try:
        return check_plain(json.loads(text))
    except RecursionError:
        raise ValueError(f"is nested more than {_DEEPEST} deep") from None


def dump_yaml(content: Mapping[str, Any]) -> str:
    """The content as YAML that `read_yaml` reads."""
    return yaml.dump(dict(content), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)


def check_plain(content: Any) -> Any:
    """The content, if it is of plain values only, not too many of them and not nested too deep.

    Raises:
        ValueError: it is not.
    """
    waiting, seen = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"is nested more than {_DEEPEST} deep")
        if isinstance(value, Mapping | list | tuple):
            seen += len(value)  # a container that stands in many places counts in each
            if seen > _MOST_ITEMS:
                raise ValueError(f"holds more than {_MOST_ITEMS} values")
            if isinstance(value, Mapping):
                odd = next((key for key in value if not isinstance(key, str)), None)
                if odd is not None:
                    raise ValueError(f"has a key that is no word: {shown(odd)}")
                value = list(value.values())
            waiting.extend((item, depth + 1) for item in value)
        elif value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"holds a {type(value).__name__}")
    return content


def _text(file: Path, most_bytes: int) -> str:
    with open(file, "rb", opener=_open_at_once) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"is larger than {most_bytes} bytes")
    return content.decode("utf-8")


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe in its place is read as empty instead of waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"uses the anchor {event.anchor}")
        return super().compose_node(parent, index)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
