"""Speed of this framework against what else could be used: `python scripts/benchmark.py`; `--help` lists the options.

The sides of a comparison are measured in turn (A B C A B C ...), and the median of each counts: a busy machine hits all
of them. Only whole trainings (`training`, `settings`) run one after the other. Blurred images are checked against a
direct convolution before they are timed. The results go to `outputs/benchmarks/<date>.json` and, as tables,
`<date>.md`, with the sections in the name if it is not all of them; a second run on one day replaces the first.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

# Read when torch is imported. Threads that spin instead, the default, lose most of their speed on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed, too

import torch
from rich.console import Console

from deblur.benchmark import blur, evaluation, fit, memory, pipeline, restoring, scaling, settings, startup, training
from deblur.benchmark.bench import Bench, Row
from deblur.benchmark.report import WORDS, environment, growth_table, page, rows_table
from deblur.cli import make_console, prepare_logging
from deblur.tables import print_table

SECTIONS = {
    "blur": blur.run,
    "pipeline": pipeline.run,
    "step": fit.run,
    "training": training.run,
    "settings": settings.run,
    "evaluation": evaluation.run,
    "restore": restoring.run,
    "startup": startup.run,
    "memory": memory.run,
    "scaling": scaling.run,
}


def main() -> None:
    """Measure the chosen sections, print the tables and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] + ".")
    parser.add_argument(
        "sections", nargs="*", choices=[*SECTIONS, []], help="all by default", metavar="|".join(SECTIONS)
    )
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement (default %(default)s)")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1 (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"), help="folder (default %(default)s)")
    options = parser.parse_args()
    if not 0 < options.seconds < float("inf"):
        parser.error(f"--seconds {options.seconds}: must be a positive number")
    prepare_logging()
    logging.getLogger("deblur").setLevel(logging.WARNING)
    console = make_console()
    results = environment(options.device) | {"seconds": options.seconds, "rows": [], "growth": [], "left_out": []}
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output}: {error.strerror}")
    device_name = [] if options.device.type == "cpu" else [options.device.type]
    file = options.output / ("_".join([results["date"], *device_name, *dict.fromkeys(options.sections)]) + ".json")
    shown = Console(stderr=True)
    with shown.status("") as status:
        bench = Bench(options.device, options.seconds, say=status.update, left_out=results["left_out"])
        for name in dict.fromkeys(options.sections or SECTIONS):
            if not shown.is_terminal:
                shown.print(f"{time.strftime('%H:%M:%S')} {name}", highlight=False)
            for found in SECTIONS[name](bench):
                results["rows" if isinstance(found, Row) else "growth"].append(found.as_dict())
                write(results, file)  # now: a peer that fails later takes nothing away
        write(results, file)
    for table, rows in ((rows_table, results["rows"]), (growth_table, results["growth"])):
        if rows:
            print_table(console, table(rows), WORDS)
    for reason in bench.left_out:
        console.print(f"Left out: {reason}.", highlight=False)
    console.print(f"written: {file} and .md", highlight=False, soft_wrap=True)


def device(name: str) -> torch.device:
    """The device of this name: the processor, or a GPU that is there."""
    try:
        found = torch.device(name)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{name}: must be cpu, cuda or cuda:1 and so on")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"{name}: there is no such device")
    return found


def write(results: dict[str, Any], file: Path) -> None:
    """Write the results as JSON into the file, and as a page beside it."""
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
