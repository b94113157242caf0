"""The answer of a sweep: one table of its runs, as CSV, Markdown, PNG and on the terminal, from their results.json.

Imports no torch: a few hundred runs are summarised in about a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from deblur.errors import UsageError, check_choice, shown
from deblur.metric_names import LOSS, TEST, VALIDATION, metric_mode
from deblur.stored import dump_yaml, read_yaml
from deblur.tables import as_csv, as_markdown, print_table
from deblur.training.run import Run, folder_name, one_at_a_time, refuse_links, write_atomically

# What a table has columns of; it can be sorted by any metric of the runs.
METRICS = tuple(f"{split}/{name}" for split in ("val", "test") for name in ("psnr", "ssim", "mse", "psnr_gain"))
_TABLE = ("val/psnr", "test/psnr", "test/ssim", "test/mse", "test/psnr_gain")  # of those, as Markdown and printed
_TITLES = {"psnr": "PSNR, dB", "ssim": "SSIM", "mse": "MSE", "psnr_gain": "gain, dB"}
_DIGITS = {"psnr": 2, "psnr_gain": 2, "psnr_blurred": 2, "ssim": 4, "ssim_blurred": 4, "mse": 6, "mse_blurred": 6}
_FILE = "sweep.yaml"
_MOST_BARS = 40  # that a picture shows
_LONGEST_LABEL = 60  # characters at a bar, a row or a column of the figure
_SHOWN = ("best_epoch", "parameters", "images_per_second", "seconds", "error")  # what else a row has of a run's results


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: its folder in the sweep's.
        overrides: its settings as typed, but for those that all jobs share.
    """

    name: str
    overrides: dict[str, str]


@dataclass(frozen=True)
class Sweep:
    """What a sweep is: kept in its folder as `sweep.yaml`, so that a summary needs nothing but the folder.

    Attributes:
        folder: of the sweep.
        command: the overrides as typed, which tell one sweep from another.
        swept: the keys that differ between jobs, in the order typed.
        metric: what the table is sorted by. On validation images, or the settings would be chosen on those of the test.
        jobs: all jobs, in the order of the command.
    """

    folder: Path
    command: list[str]
    swept: list[str]
    metric: str
    jobs: list[Job]

    @classmethod
    def open(cls, path: str) -> Sweep:
        """The sweep in a folder.

        Raises:
            UsageError: there is none.
        """
        folder = Path(path).expanduser()
        try:
            content = read_yaml(folder / _FILE, most_bytes=2**24)
            jobs = [
                Job(str(job["name"]), {key: str(value) for key, value in job["overrides"].items()})
                for job in content["jobs"]
            ]
            elsewhere = next((job.name for job in jobs if folder_name(job.name) != job.name), None)
            if elsewhere is not None:
                raise ValueError(f"{shown(elsewhere)} is the name of no job")
            swept, command = [list(map(str, content[key])) for key in ("swept", "command")]
            metric = check_metric(content["metric"])
        except OSError:
            raise UsageError(f"{path}: is no sweep; a sweep is a folder with {_FILE}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{folder / _FILE}: is damaged: {' '.join(str(error).split())}") from error
        refuse_links(folder)
        return cls(folder, command, swept, metric, jobs)

    def save(self) -> None:
        """Write `sweep.yaml`."""
        jobs = [{"name": job.name, "overrides": job.overrides} for job in self.jobs]
        content = {"command": self.command, "swept": self.swept, "metric": self.metric, "jobs": jobs}
        write_atomically(self.folder / _FILE, dump_yaml(content))

    def rows(self) -> list[dict[str, Any]]:
        """One row a job: its swept settings, status, metrics and error; the best first, those without metrics last."""
        rows = []
        for job in self.jobs:
            run = Run(self.folder / job.name)
            results = run.results()
            metrics = results.get("metrics") or {}
            row: dict[str, Any] = {"run": job.name} | {key: job.overrides.get(key, "") for key in self.swept}
            row |= {"status": run.state()} | {name: metrics.get(name) for name in self._metrics}
            row |= {key: results.get(key) for key in _SHOWN}
            rows.append(row)
        return sorted(rows, key=self._rank)

    def over_seeds(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Mean and standard deviation over seeds for otherwise equal settings; empty if no seeds were swept."""
        if "seed" not in self.swept:
            return []
        others = [key for key in self.swept if key != "seed"]
        groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in rows:
            if row[self.metric] is not None:
                groups.setdefault(tuple(row[key] for key in others), []).append(row)
        found = []
        for settings, members in groups.items():
            line: dict[str, Any] = dict(zip(others, settings, strict=True)) | {"seeds": len(members)}
            for name in self._metrics:
                values = [member[name] for member in members if member[name] is not None]
                line[name] = mean(values) if values else None
                line[f"{name} std"] = stdev(values) if len(values) > 1 else None
            found.append(line)
        return sorted(found, key=self._rank)

    def write(self) -> None:
        """Write summary.csv, summary.md and summary.png, each whole; jobs that end at once write in turn."""
        with one_at_a_time(self.folder / ".summary.lock"):
            rows = self.rows()
            seeds = self.over_seeds(rows)
            write_atomically(self.folder / "summary.csv", as_csv(list(rows[0]) if rows else ["run"], rows))
            text = f"# {self.folder.name}\n\n`{' '.join(self.command)}`, by {self.metric}\n\n"
            text += as_markdown(self._cells(rows), self._words)
            if seeds:
                table = as_markdown(self._seed_cells(seeds), self._words)
                text += f"\nOver seeds, mean ± standard deviation:\n\n{table}"
            write_atomically(self.folder / "summary.md", text)
            self._draw(rows)

    def show(self, console: Console) -> None:
        """Print the table, and the one over seeds."""
        rows = self.rows()
        tables = [(f"{self.folder.name}, by {self.metric}", self._cells(rows))]
        seeds = self.over_seeds(rows)
        if seeds:
            tables.append(("over seeds, mean ± standard deviation", self._seed_cells(seeds)))
        for title, cells in tables:
            console.print(f"{title}:", highlight=False)
            print_table(console, cells, self._words)

    def failures(self) -> list[tuple[str, str]]:
        """(job, error) of the jobs that failed, in the order of the command."""
        runs = {job.name: Run(self.folder / job.name) for job in self.jobs}
        return [(name, str(run.results().get("error"))) for name, run in runs.items() if run.state() == "failed"]

    def _rank(self, row: Mapping[str, Any]) -> tuple[bool, float]:
        value = row[self.metric]
        return value is None, (1 if metric_mode(self.metric) == "min" else -1) * (value or 0.0)

    @property
    def _metrics(self) -> tuple[str, ...]:
        return _with_first(self.metric, METRICS)

    @property
    def _words(self) -> tuple[str, ...]:
        return (*self.swept, "run", "status", "error")

    def _cells(self, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        keys = [*(self.swept or ["run"]), *_with_first(self.metric, _TABLE), "parameters", "seconds"]
        if any(row["status"] != "finished" for row in rows):
            keys.insert(len(self.swept or ["run"]), "status")
        if any(row["error"] for row in rows):
            keys.append("error")
        return [[_title(key) for key in keys]] + [[_text(key, row[key]) for key in keys] for row in rows]

    def _seed_cells(self, lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        others = [key for key in self.swept if key != "seed"]
        names = _with_first(self.metric, _TABLE)
        cells = [[*others, "seeds", *map(_title, names)]]
        for line in lines:
            values = [
                _text(name, line[name])
                + ("" if line[f"{name} std"] is None else f" ± {_text(name, line[f'{name} std'])}")
                for name in names
            ]
            cells.append([*(str(line[key]) for key in others), str(line["seeds"]), *values])
        return cells

    def _draw(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw the metric: a heat map for two swept keys (means over seeds), bars of the best otherwise."""
        done = [row for row in rows if row[self.metric] is not None]
        keys = [key for key in self.swept if key != "seed"]
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axis = figure.subplots()
        if len(keys) == 2 and done:
            down, across = ([job.overrides.get(key, "") for job in self.jobs] for key in keys)
            down, across = list(dict.fromkeys(down)), list(dict.fromkeys(across))
            figure.set_size_inches(max(6.0, 0.65 * len(across) + 3), max(3.0, 0.45 * len(down) + 1.8))
            grid = [[float("nan")] * len(across) for _ in down]
            for i, y in enumerate(down):
                for j, x in enumerate(across):
                    values = [row[self.metric] for row in done if row[keys[0]] == y and row[keys[1]] == x]
                    if values:
                        grid[i][j] = mean(values)
                        axis.text(
                            j, i, _text(self.metric, grid[i][j]), ha="center", va="center", fontsize=9, bbox=_LABEL
                        )
            figure.colorbar(axis.imshow(grid, aspect="auto", cmap="viridis"), label=self.metric)
            axis.set(xticks=range(len(across)), yticks=range(len(down)), xlabel=keys[1], ylabel=keys[0])
            axis.set_xticklabels(map(_short, across))
            axis.set_yticklabels(map(_short, down))
        else:
            shown = done[:_MOST_BARS][::-1]
            labels = [_short(", ".join(f"{key}={row[key]}" for key in self.swept) or row["run"]) for row in shown]
            values = [row[self.metric] for row in shown]
            figure.set_figheight(max(2.5, 0.3 * len(shown) + 1.2))
            bars = axis.barh(range(len(shown)), values, tick_label=labels)
            for bar, value in zip(bars, values, strict=True):
                axis.text(
                    bar.get_width(), bar.get_y() + bar.get_height() / 2, f" {_text(self.metric, value)}", va="center"
                )
            axis.set(xlabel=self.metric)
            axis.margins(x=0.15)
        best = "" if len(keys) == 2 or len(done) <= _MOST_BARS else f", the best {_MOST_BARS} of {len(done)}"
        figure.suptitle(self.folder.name + best, fontsize=10)
        temporary = self.folder / f".summary.{os.getpid()}.png"
        figure.savefig(temporary, dpi=100)
        temporary.replace(self.folder / "summary.png")


def _short(label: str) -> str:
    """The label without its middle, where there would be no room for it."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL // 2]}…{label[-_LONGEST_LABEL // 2 :]}"


def swept_settings(run: Run) -> dict[str, float | str]:
    """The settings by which a run differs from the others of its sweep; empty for a run of no sweep.

    A setting is a number if it is one in all jobs, else the word that was typed.
    """
    try:
        jobs = Sweep.open(str(run.path.parent)).jobs
    except UsageError:
        return {}
    mine = next((job.overrides for job in jobs if job.name == run.path.name), {})
    return {
        key: float(value) if all(_is_number(job.overrides.get(key, "")) for job in jobs) else value
        for key, value in mine.items()
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_LABEL = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.5}


def check_metric(name: Any) -> str:
    """The metric, if a table can be sorted by it.

    Raises:
        ArgumentError: it cannot.
    """
    return check_choice("metric", name, (*VALIDATION, *TEST, LOSS))


def _with_first(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names; one that is not among them comes first."""
    return tuple(names) if name in names else (name, *names)


def _title(key: str) -> str:
    split, _, name = key.rpartition("/")
    return f"{split} {_TITLES[name]}" if name in _TITLES else key


def _text(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "seconds":
        return f"{value:.0f}"
    if key == "parameters":
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.{_DIGITS.get(key.rpartition('/')[2], 3)}f}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
