"""The two errors that a user sees as one line: what was wrong, where, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

_LARGEST = 1e300  # a whole number beyond the range of floats is no number either


class UsageError(Exception):
    """Something the user asked for cannot be done; the doors print it as one line and exit with code 2."""


class ArgumentError(ValueError):
    """A constructor's argument is not allowed. The doors put the config's path in front of `name`."""

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name}={shown(value)}: must be {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


def shown(value: Any) -> str:
    """A value as the user would type it on the command line, shortened to one line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return f"[{','.join(shown(item) for item in value)}]"
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:117]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the most similar known word, or nothing."""
    match = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]}?" if match else ""


def check_number(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> float:
    """The value as a finite float in [low, high] and greater than `above`.

    Raises:
        ArgumentError: it is no number, not finite or out of range.
    """
    allowed = "a number" + _range_text(low, high, above)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ArgumentError(name, value, allowed)
    if not (low <= value <= high and value > above):
        raise ArgumentError(name, value, allowed)
    return float(value)


def check_integer(name: str, value: Any, *, low: int, high: int | None = None) -> int:
    """The value as an int in [low, high].

    Raises:
        ArgumentError: it is no whole number or out of range.
    """
    top = math.inf if high is None else high
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= top:
        raise ArgumentError(name, value, "a whole number" + _range_text(low, top, -math.inf))
    return value


def check_range(name: str, value: Any, *, low: float, high: float = math.inf) -> tuple[float, float]:
    """(smallest, largest) of a setting that is a number or `[min, max]`, both in [low, high].

    Raises:
        ArgumentError: it is neither, or min > max.
    """
    allowed = f"a number{_range_text(low, high, -math.inf)}, or [min, max] of such with min <= max"
    pair = list(value) if isinstance(value, list | tuple) else [value, value]
    numbers = [v for v in pair if not isinstance(v, bool) and isinstance(v, int | float) and low <= v <= high]
    if len(pair) != 2 or len(numbers) != 2 or not all(abs(v) <= _LARGEST for v in pair) or pair[0] > pair[1]:
        raise ArgumentError(name, value, allowed)
    return float(pair[0]), float(pair[1])


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """The value, if it is one of the choices.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(name, value, f"one of {', '.join(choices)}{nearest(str(value), choices)}")
    return value


def check_path(name: str, value: Any, allowed: str) -> Path:
    """The value as a path, with `~` expanded.

    Raises:
        ArgumentError: no file system could have such a path.
    """
    if not isinstance(value, str) or not value:
        raise ArgumentError(name, value, allowed)
    try:
        path = Path(value).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ArgumentError(name, value, f"{allowed} ({getattr(error, 'strerror', None) or error})") from error
    return path


def check_flag(name: str, value: Any) -> bool:
    """The value, if it is a bool.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, bool):
        raise ArgumentError(name, value, "true or false")
    return value


def _range_text(low: float, high: float, above: float) -> str:
    if above > -math.inf:
        return f" > {above:g}" + (f" and <= {high:g}" if high < math.inf else "")
    if low > -math.inf and high < math.inf:
        return f" from {low:g} to {high:g}"
    return f" >= {low:g}" if low > -math.inf else ""
