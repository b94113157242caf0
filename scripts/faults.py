"""Reliability and security, tried out: `python scripts/faults.py`; `--help` lists the options.

Trainings are killed, faults put into them, command lines typed wrong, files damaged and made to attack. The results go
to `outputs/faults/<date>.json` and, as a table, `<date>.md`; the plot of memory to `<date>_memory.png`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed, too
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # waiting threads sleep soon; read when torch is imported

import torch
from rich.console import Console

from deblur.cli import make_console, prepare_logging
from deblur.faults import attacks, bad_data, commands, crowd, fuzz, injected, kill, memory
from deblur.faults.report import WORDS, details, environment, page, table
from deblur.faults.row import Row, Setting
from deblur.faults.tiny import write_digits
from deblur.tables import print_table

SECTIONS = {  # what tries, and how many of what it counts
    "kill": ((kill.run,), 20),
    "faults": ((injected.run, bad_data.run), 1),
    "commands": ((commands.run,), 1),
    "fuzz": ((fuzz.run,), 2000),
    "attacks": ((attacks.run,), 1),
    "crowd": ((crowd.run,), 1),
    "memory": ((memory.run,), 200),
}


def main() -> int:
    """Try the chosen sections, print the table and write the files; returns 1 if anything did not end well."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument(
        "sections", nargs="*", choices=[*SECTIONS, []], help="all by default", metavar="|".join(SECTIONS)
    )
    parser.add_argument("--share", type=float, default=1.0, help="of kills, inputs, epochs (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and inputs (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/faults"), help="folder (default %(default)s)")
    options = parser.parse_args()
    if not 0 < options.share <= 100:
        parser.error(f"--share {options.share}: must be a positive number, at most 100")
    prepare_logging()
    torch.set_num_threads(1)
    console, started = make_console(), time.perf_counter()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place, Console(stderr=True).status("") as status:
        data = write_digits(Path(place) / "data")
        for name in dict.fromkeys(options.sections or SECTIONS):
            tries, count = SECTIONS[name]
            setting = Setting(
                Path(place) / name, data, max(1, round(count * options.share)), options.seed, status.update
            )
            for number, one in enumerate(tries):
                folder = setting.folder / str(number)
                folder.mkdir(parents=True)
                rows += one(replace(setting, folder=folder))
    results = environment() | {
        "seed": options.seed,
        "seconds": time.perf_counter() - started,
        "rows": [row.as_dict() for row in rows],
    }
    print_table(console, table(results["rows"]), WORDS)
    for line in details(results["rows"]):
        console.print(line, highlight=False, soft_wrap=True)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / f"{results['date']}.json"
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(page(results), encoding="utf-8")
    for row in rows:
        if "points" in row.details:
            memory.draw(row.details["points"]).savefig(file.with_name(f"{file.stem}_memory.png"), dpi=90)
    console.print(f"written: {file}, .md", highlight=False, soft_wrap=True)
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
