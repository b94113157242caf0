"""The benchmark's answer: its tables, and what its numbers depend on."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from deblur.tables import as_markdown
from deblur.training.report import versions

PEERS = ("deepinv", "kornia", "albumentations")
WORDS = ("what", "against", "unit", "middle half", "of", "target", "over", "at")


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on: versions, processor, threads, device, and how busy the machine was before."""
    info = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    peers = {}
    for name in PEERS:
        try:
            peers[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": f"{cpu[1] if cpu else os.uname().machine}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "spin_count": os.environ.get("GOMP_SPINCOUNT", ""),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions() | peers,
    }


def rows_table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The comparisons as a table."""
    cells = [["what", "against", "ours", "theirs", "unit", "ratio", "middle half", "of", "target"]]
    for row in rows:
        digits = ".2f" if row["unit"] == "s" else ",.0f"
        half = " to ".join(f"{ratio:.2f}" for ratio in row["middle_half"])
        verdict = "met" if row["ratio"] >= (row["target"] or 0) else "missed"
        target = "" if row["target"] is None else f"{row['target']:g}, {verdict}"
        numbers = [f"{row['ours']:{digits}}", f"{row['theirs']:{digits}}", row["unit"], f"{row['ratio']:.2f}"]
        cells.append([row["what"], row["theirs_name"], *numbers, half, str(len(row["ours_all"])), target])
    return cells


def growth_table(growths: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The costs and how they grow as a table."""
    cells = [["what", "over", "at", "milliseconds", "exponent"]]
    for growth in growths:
        at = ", ".join(f"{value:g}" for value in growth["values"])
        costs = ", ".join(f"{1000 * seconds:.3g}" for seconds in growth["seconds"])
        cells.append([growth["what"], growth["over"], at, costs, f"{growth['exponent']:.2f}"])
    return cells


def page(results: Mapping[str, Any]) -> str:
    """The content of the .json as a page of Markdown."""
    parts = [f"# Benchmarks of {results['date']}\n"]
    if results["rows"]:
        parts.append(as_markdown(rows_table(results["rows"]), WORDS))
    if results["growth"]:
        parts.append(as_markdown(growth_table(results["growth"]), WORDS))
    parts += [f"Left out: {reason}.\n" for reason in results["left_out"]]
    threads = f"{results['threads']} threads, GOMP_SPINCOUNT={results['spin_count']}"
    parts.append(
        f"Medians of so many measurements of each side as the column `of` says ({results['seconds']:g} s each, where "
        "one pass of what is measured takes no longer). The ratio is the median of the rounds' ratios, for seconds and "
        "MB the other way round: above 1, ours is better; middle half: of the same.\n"
        f"Device: {results['device']}. CPU: {results['cpu']}, {threads}, load {results['load']} before.\n"
        "Versions: " + ", ".join(map(" ".join, results["versions"].items())) + ".\n"
    )
    return "\n".join(parts)
