"""What a section of the fault tests finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One kind of thing that was tried.

    Attributes:
        what: was tried.
        good: what a good end is, in words.
        tried: how many.
        failures: each one that did not end well, in a line.
        details: further figures by name.
    """

    what: str
    good: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, failure: str | None) -> None:
        """Count one that was tried; `failure` says what was not well, None that all was."""
        self.tried += 1
        if failure is not None:
            self.failures.append(f"{name}: {failure}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the file."""
        return vars(self) | {"ended_well": self.tried - len(self.failures)}


@dataclass(frozen=True)
class Setting:
    """Where and how much a section tries.

    Attributes:
        folder: to work in, empty at first.
        data: the root of tiny digits, as `tiny.write_digits` makes it.
        count: how many of what is counted: kills, fuzz inputs of a reader, epochs.
        seed: chooses them.
        say: shows what is going on.
    """

    folder: Path
    data: Path
    count: int
    seed: int = 0
    say: Callable[[str], object] = lambda words: None
