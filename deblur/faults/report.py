"""The answer of the fault tests: a table, a page, a plot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from deblur.tables import as_markdown
from deblur.training.report import versions

WORDS = ("what was tried", "a good end")


def environment() -> dict[str, Any]:
    """When, and with what, the faults were tried."""
    return {"date": date.today().isoformat(), "cores": os.cpu_count(), "versions": versions()}


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One line for each kind of thing that was tried."""
    cells = [["what was tried", "a good end", "tried", "ended well"]]
    for row in rows:
        cells.append([row["what"], row["good"], f"{row['tried']:,}", f"{row['ended_well']:,}"])
    return cells


def details(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of further figures, and of everything that did not end well."""
    lines = []
    for row in rows:
        shown = {key: value for key, value in row["details"].items() if key not in ("points", "bytes")}
        if shown:
            lines.append(f"{row['what']}: " + ", ".join(f"{key} {_text(value)}" for key, value in shown.items()))
        lines += [f"NOT WELL: {row['what']}: {failure}" for failure in row["failures"]]
    return lines


def page(results: Mapping[str, Any]) -> str:
    """The content of the .json as a page of Markdown."""
    parts = [f"# Faults tried on {results['date']}\n", as_markdown(table(results["rows"]), WORDS)]
    parts += [f"{line}.\n" for line in details(results["rows"])]
    parts.append(
        f"Seed {results['seed']}, {results['cores']} cores, {results['seconds']:.0f} s. Versions: "
        + ", ".join(map(" ".join, results["versions"].items()))
        + ".\n"
    )
    return "\n".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + ")"
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)
