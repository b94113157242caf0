"""The answer of a search: its table as CSV, Markdown and on the terminal, its history and importances as PNGs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console

from deblur.search.experiment import write_experiment
from deblur.search.plan import Search
from deblur.search.space import shown_value
from deblur.search.study import Row, Study
from deblur.tables import as_csv, as_markdown, print_table
from deblur.training.run import write_atomically

_WORDS = ("trial", "status", "error")
_SHOWN = 20  # trials in the terminal's table
_MARKS = {"finished": ("o", "C0"), "pruned": ("v", "C1"), "running": ("s", "C7"), "interrupted": ("s", "C7")}


def write_report(study: Study) -> None:
    """Write summary.csv, summary.md, history.png, importances.png and best.yaml, each whole."""
    search = study.search
    with study.turn():
        rows = _sorted(search, study.rows())
        best = study.best()
        write_atomically(search.folder / "summary.csv", _as_csv(search, rows))
        text = f"# {search.name}\n\nBy {search.metric}; in all trials `{' '.join(search.overrides)}`\n\n"
        write_atomically(search.folder / "summary.md", text + as_markdown(_cells(search, rows), _WORDS))
        _save(_history(search, rows), search.folder / "history.png")
        _save(_importances(search, study.importances()), search.folder / "importances.png")
        if best is not None:
            write_experiment(search, best)


def show_table(study: Study, console: Console) -> None:
    """Print the best trials, and what stopped those that failed."""
    search = study.search
    rows = _sorted(search, study.rows())
    cells = _cells(search, rows[:_SHOWN])
    more = f", the best {_SHOWN} of {len(rows)}" if len(rows) > _SHOWN else ""
    console.print(f"{search.name}, by {search.metric}{more}:", highlight=False)
    print_table(console, cells, _WORDS)


def result_text(search: Search, value: float | None) -> str:
    """The metric's value for people: two digits for dB, four for SSIM, six for squared errors."""
    digits = {"val/ssim": 4, "val/mse": 6}.get(search.metric, 2)
    return "" if value is None else f"{value:.{digits}f}"


def settings_text(values: Mapping[str, str]) -> str:
    """`key=value key=value`, numbers shortened."""
    return " ".join(f"{key}={shown_value(value)}" for key, value in values.items())


def _sorted(search: Search, rows: Sequence[Row]) -> list[Row]:
    """The finished first, then those that were stopped; each from best to worst."""
    order = ("finished", "pruned", "running", "interrupted", "failed")
    sign = -1 if search.maximizes else 1

    def place(row: Row) -> tuple[int, bool, float]:
        rank = order.index(row.status) if row.status in order else len(order)
        return rank, row.value is None, sign * (row.value or 0.0)

    return sorted(rows, key=place)


def _cells(search: Search, rows: Sequence[Row]) -> list[list[str]]:
    """The table's header and lines, as shown."""
    failed = any(row.error for row in rows)
    header = ["trial", *(entry.name for entry in search.entries), "status", search.metric, "epochs", "seconds"]
    lines = [
        [
            row.name,
            *(shown_value(row.values.get(entry.key, "")) for entry in search.entries),
            row.status,
            result_text(search, row.value),
            str(row.epochs),
            "" if row.seconds is None else f"{row.seconds:.0f}",
            *([row.error or ""] if failed else []),
        ]
        for row in rows
    ]
    return [header + (["error"] if failed else []), *lines]


def _as_csv(search: Search, rows: Sequence[Row]) -> str:
    keys = {entry.name: entry.key for entry in search.entries}
    lines = [
        {"trial": row.name, **{name: row.values.get(key) for name, key in keys.items()}, "status": row.status}
        | {search.metric: row.value, "epochs": row.epochs, "seconds": row.seconds, "error": row.error}
        for row in rows
    ]
    return as_csv(["trial", *keys, "status", search.metric, "epochs", "seconds", "error"], lines)


def _history(search: Search, rows: Sequence[Row]) -> Figure:
    """Every trial's result in the order of the search, and the best so far."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axis = figure.subplots()
    for status, (mark, color) in _MARKS.items():
        points = [(row.number, row.value) for row in rows if row.status == status and row.value is not None]
        if points:
            fill = "none" if status != "finished" else color
            axis.scatter(*zip(*points, strict=True), marker=mark, edgecolors=color, facecolors=fill, label=status)
    failed = [row.number for row in rows if row.status == "failed"]
    if failed:
        low = axis.get_xaxis_transform()  # at the lower edge: they have no result
        axis.scatter(failed, [0.02] * len(failed), marker="x", color="C3", transform=low, label="failed")
    best: list[tuple[int, float]] = []
    for row in sorted(rows, key=lambda row: row.number):
        if row.status == "finished" and search.is_better(row.value, best[-1][1] if best else None):
            best.append((row.number, row.value))
    if best:
        best.append((max(row.number for row in rows), best[-1][1]))
        axis.step(*zip(*best, strict=True), where="post", color="C0", lw=1, label="best so far")
    axis.set(xlabel="trial", ylabel=search.metric)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
    figure.suptitle(search.name, fontsize=10)
    return figure


def _importances(search: Search, shares: Mapping[str, float]) -> Figure:
    """How much of the differences between the finished trials each searched setting explains."""
    figure = Figure(figsize=(7.5, max(2.0, 0.4 * len(search.entries) + 1.2)), layout="constrained")
    axis = figure.subplots()
    if shares:
        bars = axis.barh(list(shares)[::-1], list(shares.values())[::-1])
        for bar in bars:
            place = bar.get_width(), bar.get_y() + bar.get_height() / 2
            axis.text(*place, f" {bar.get_width():.2f}", va="center", fontsize=9)
        axis.margins(x=0.12)
    else:
        axis.text(0.5, 0.5, "too few finished trials to tell", ha="center", va="center", transform=axis.transAxes)
        axis.set_yticks([])
    axis.set(xlabel=f"importance for {search.metric} (PED-ANOVA, sums to 1)", xlim=(0, None if shares else 1))
    figure.suptitle(search.name, fontsize=10)
    return figure


def _save(figure: Figure, file: Path) -> None:
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.png")
    figure.savefig(temporary, dpi=100)
    temporary.replace(file)
