"""Tables: on the terminal, as Markdown, as CSV. A table is its header and its lines, all of them text."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Cells = Sequence[Sequence[str]]


def print_table(console: Console, cells: Cells, words: Collection[str] = ()) -> None:
    """Print the table; its columns are of numbers but for those named in `words`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in cells[0]:
        table.add_column(column, justify="left" if column in words else "right", overflow="fold")
    for line in cells[1:]:
        table.add_row(*line)
    console.print(table)


def as_markdown(cells: Cells, words: Collection[str] = ()) -> str:
    """The table in Markdown; its columns are of numbers but for those named in `words`."""
    rule = ["---" if column in words else "---:" for column in cells[0]]
    lines = [cells[0], rule, *cells[1:]]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def as_csv(fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows in CSV, in full precision; what a row lacks is left empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
