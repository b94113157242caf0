"""An evaluation's results as one JSON file, and the CSV, Markdown and terminal tables rendered from it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from deblur.evaluation.measure import Values
from deblur.evaluation.registry import METRICS
from deblur.tables import as_csv, print_table
from deblur.tables import as_markdown as table_as_markdown
from deblur.training.run import whole_file, write_atomically

Results = Mapping[str, Any]
Cells = list[list[str]]
_WORDS = ("method", "blur")


def write_report(folder: Path, name: str, results: Results) -> None:
    """Write `<name>.json`, and `.csv` and `.md` from it, each whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / f"{name}.csv", _as_csv(results))
    write_atomically(folder / f"{name}.md", as_markdown(results))


def write_values(file: Path, results: Results, found: Sequence[Mapping[str, Values]]) -> None:
    """Write every image's own values as CSV: a row for each image, method and condition, a column for each metric.

    Args:
        file: to write, whole.
        results: of the evaluation.
        found: the values of each condition, by method.
    """
    with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*results["labels"], "method", "image", *results["metrics"]])
        for condition, methods in zip(results["conditions"], found, strict=True):
            labels = [condition["labels"][label] for label in results["labels"]]
            for method, values in methods.items():
                columns = [
                    values[name].tolist() if name in values else [""] * results["images"] for name in results["metrics"]
                ]
                writer.writerows(
                    [*labels, method, image, *line] for image, line in enumerate(zip(*columns, strict=True))
                )


def show_report(console: Console, results: Results) -> None:
    """Print the tables and the worst images."""
    for title, cells in tables(results):
        console.print(f"{title}:", highlight=False)
        print_table(console, cells, _WORDS)
    for line in _worst(results):
        console.print(line, highlight=False, soft_wrap=True)


def tables(results: Results) -> Iterator[tuple[str, Cells]]:
    """(title, header and rows) of each table: the methods by condition; the benchmark's with the published rows."""
    about = f"{results['title']}, {results['images']:,} images ({results['data']})"
    if "benchmark" in results:
        yield f"{results['title']}, {results['data']}", _benchmark_cells(results["benchmark"])
        return
    yield f"{about}, mean ± half the width of its 95 % interval", _cells(results)


def _cells(results: Results) -> Cells:
    labels, metrics = results["labels"], results["metrics"]
    titles = [METRICS[name].title + (f", {METRICS[name].unit}" if METRICS[name].unit else "") for name in metrics]
    rows: Cells = [[*labels, "method", *titles]]
    for condition in results["conditions"]:
        for method, found in condition["methods"].items():
            line = [str(condition["labels"][label]) for label in labels] + [_titled(method, found)]
            rows.append([*line, *(_figure(name, found["metrics"].get(name)) for name in metrics)])
    return rows


def _titled(method: str, found: Mapping[str, Any]) -> str:
    if "parameter" not in found:
        return method
    name, value = found["parameter"]
    return f"{method}, {name} {value:g}{', an end of its grid' if found['parameter_at_the_edge'] else ''}"


def _figure(name: str, summary: Mapping[str, float] | None) -> str:
    if summary is None:
        return ""
    digits = METRICS[name].digits
    return f"{summary['mean']:.{digits}f} ± {(summary['high'] - summary['low']) / 2:.{digits}f}"


def _benchmark_cells(benchmark: Mapping[str, Any]) -> Cells:
    rows: Cells = [["method", "MSE", "± std over rounds", "parameters", "PSNR, dB", "SSIM"]]
    for row in benchmark["rows"]:
        values = [f"{row['mse']:.6f}", "" if row["std"] is None else f"{row['std']:.6f}", row["parameters"]]
        rows.append([row["method"], *values, *(_plain(row, key, digits) for key, digits in (("psnr", 2), ("ssim", 4)))])
    return rows


def _plain(row: Mapping[str, Any], key: str, digits: int) -> str:
    return "" if row.get(key) is None else f"{row[key]:.{digits}f}"


def _worst(results: Results) -> Iterator[str]:
    """The worst images of each network, where it is worst."""
    for method in results["conditions"][0]["methods"]:
        there = [condition for condition in results["conditions"] if "worst" in condition["methods"][method]]
        if there:
            condition = min(there, key=lambda condition: condition["methods"][method]["metrics"]["psnr"]["mean"])
            where = ", ".join(f"{key} {value}" for key, value in condition["labels"].items())
            worst = condition["methods"][method]["worst"]
            images = ", ".join(f"{item['image']} ({item['psnr']:.1f} dB)" for item in worst)
            yield f"worst images of {method}{' at ' + where if where else ''}: {images}"


def _as_csv(results: Results) -> str:
    fields = [*results["labels"], "method", "parameter", "metric", "mean", "std", "low", "high", "images"]
    rows = []
    for condition in results["conditions"]:
        for method, found in condition["methods"].items():
            parameter = "" if "parameter" not in found else f"{found['parameter'][0]}={found['parameter'][1]:g}"
            for metric, summary in found["metrics"].items():
                row = {**condition["labels"], "method": method, "parameter": parameter, "metric": metric, **summary}
                rows.append(row)
    return as_csv(fields, rows)


def as_markdown(results: Results) -> str:
    """The command, the tables and the worst images."""
    parts = []
    for title, cells in tables(results):
        parts.append(f"{title}:\n\n{table_as_markdown(cells, _WORDS)}")
    parts.append("".join(f"{line}  \n" for line in _worst(results)))
    return f"`{results['command']}`\n\n" + "\n".join(part for part in parts if part)
