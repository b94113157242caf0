"""The space of a search: which settings are searched, and among which values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deblur.cli import quote
from deblur.errors import ArgumentError, UsageError, check_choice, check_flag, check_integer, check_number, nearest
from deblur.training.settings import section

_FIELDS = {"float": ("low", "high", "log"), "int": ("low", "high", "log", "step"), "categorical": ("choices",)}
_NEEDED = {"float": ("low", "high"), "int": ("low", "high"), "categorical": ("choices",)}


@dataclass(frozen=True)
class Entry:
    """One searched setting.

    Attributes:
        key: as on the command line: `optimizer.lr`, `model`.
        kind: `float`, `int` or `categorical`.
        low, high: the ends of the range, both included; of numbers.
        log: whether the logarithm is searched evenly.
        step: distance of two values, of whole numbers.
        choices: the values as they would be typed, of a categorical one.
    """

    key: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: int = 1
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The key without the `+` of a setting that the config does not have."""
        return self.key.lstrip("+")

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that are checked before the search starts, as typed: both ends of a range, or all choices."""
        return self.choices or tuple(dict.fromkeys(map(override_text, (self.low, self.high))))

    def text(self, value: str | float) -> str:
        """A value of a trial, as typed."""
        return value if self.kind == "categorical" else override_text(value)

    def plain(self) -> dict[str, Any]:
        """The entry as it is written in YAML, but for choices, which are as typed."""
        values = {"low": self.low, "high": self.high, "log": self.log, "step": self.step, "choices": list(self.choices)}
        return {"type": self.kind} | {field: values[field] for field in _FIELDS[self.kind]}


def read_space(space: Any) -> list[Entry]:
    """The entries of `search.space`.

    Raises:
        UsageError: it is empty, or an entry is no range and no list of choices.
    """
    if not isinstance(space, Mapping) or not space:
        raise UsageError(
            "search.space: must name a setting or more, like {optimizer.lr: {type: float, low: 1e-4, ...}}"
        )
    return [_read_entry(str(key), entry) for key, entry in space.items()]


def _read_entry(key: str, entry: Any) -> Entry:
    path = f"search.space.{key}"
    with section(path):
        if not isinstance(entry, Mapping):
            raise UsageError(f"{path}={override_text(entry)}: must be a mapping with type, and low and high or choices")
        kind = check_choice("type", entry.get("type"), tuple(_FIELDS))
        for field in entry:
            if field not in ("type", *_FIELDS[kind]):
                known = _FIELDS[kind]
                raise UsageError(
                    f"{path}.{field}: no such key{nearest(str(field), known)}; {kind} has {', '.join(known)}"
                )
        for field in _NEEDED[kind]:
            if field not in entry:
                raise UsageError(f"{path}.{field}: must be given")
        if kind == "categorical":
            return Entry(key, kind, choices=_read_choices(entry["choices"]))
        log = check_flag("log", entry.get("log", False))
        if kind == "float":
            low, high = (check_number(field, entry[field]) for field in ("low", "high"))
        else:
            low, high = (check_integer(field, entry[field], low=-(2**53), high=2**53) for field in ("low", "high"))
        step = check_integer("step", entry.get("step", 1), low=1)
        if low > high:
            raise ArgumentError("low", low, f"at most high, which is {high}")
        if log and low <= 0:
            raise ArgumentError("low", low, "greater than 0 where log is true")
        if log and step > 1:
            raise ArgumentError("step", step, "1 where log is true")
        if kind == "int" and (high - low) % step:
            raise ArgumentError("high", high, f"a number of steps of {step} above low, which is {low}")
        return Entry(key, kind, low, high, log, step)


def _read_choices(choices: Any) -> tuple[str, ...]:
    allowed = "a list of different values, at least one"
    if not isinstance(choices, list) or not choices or any(isinstance(choice, Mapping) for choice in choices):
        raise ArgumentError("choices", choices, allowed)
    typed = tuple(map(override_text, choices))
    if len(set(typed)) < len(typed):
        raise ArgumentError("choices", choices, allowed)
    return typed


def override_text(value: Any) -> str:
    """The value as Hydra's grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(override_text, value))}]"
    text = str(value)
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    return quote(text)


def shown_value(text: str) -> str:
    """A typed value for people: numbers with four digits."""
    try:
        return text if text.lstrip("-").isdigit() else f"{float(text):.4g}"
    except ValueError:
        return text
