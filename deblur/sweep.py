"""Many runs of one command: `-m key=a,b` expands to a job for each combination, each a run in one sweep folder.

`python -m deblur.sweep <folder>` writes and prints a sweep's table again.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from deblur.cli import call, compose, make_console, prepare_logging, settings_of
from deblur.errors import ArgumentError, UsageError, shown
from deblur.jobs import Jobs, gpus_for, hydra_at_work, launch, record_failure, run_in_turn, run_side_by_side
from deblur.summary import Job, Sweep, check_metric
from deblur.training.run import MadeOtherwise, Run, folder_name, suffixed

log = logging.getLogger(__name__)

_LONGEST_NAME = 160  # characters of a job's folder, before a number that tells it from others


def sweep(config_name: str, task: str, arguments: Sequence[str]) -> int:
    """Run all jobs of a command line with `-m`; returns 0, 1 if a job failed, or 128 + the signal that stopped it.

    Every job is composed and checked before the first one starts. Settings that are wrong by themselves are an error
    of the command; those that are wrong only together fail their own job. The same command into the same
    `sweep.name` runs what is not finished, interrupted jobs from their last checkpoint.

    Raises:
        UsageError: an override is refused in every job that has it, or the folder holds another sweep; nothing was
            started.
    """
    prepare_logging()
    overrides = get_args_parser().parse_args(list(arguments)).overrides
    ours = [override for override in overrides if not override.startswith("hydra")]
    theirs = [override for override in overrides if override.startswith("hydra")]
    with hydra_at_work() as loader:
        launcher = loader.load_configuration(config_name, theirs, RunMode.RUN).hydra.launcher
        first = expand(ours, loader)[0][0]
    config = compose(config_name, first)
    at_once = _jobs_at_once(launcher, config.trainer)
    folder = _folder(config)
    ours = _as_before(folder, ours)
    with hydra_at_work() as loader:
        jobs, swept = expand(ours, loader)
    plan = _plan(folder, config.sweep.metric, jobs, swept, ours)
    commands = {job.name: [*line, f"sweep.job='{job.name}'"] for job, line in zip(plan.jobs, jobs, strict=True)}
    if at_once > 1:
        import torch

        torch.set_num_threads(1)  # threads of this process would be missing in its copies
    settings = {name: settings_of(config_name, command)[0] for name, command in commands.items()}
    _place(plan, settings, commands)
    refused, work = _checked(f"{task.partition(':')[0]}:check_job", plan, settings)

    if config.sweep.name is None:
        plan = replace(plan, folder=_new_folder(plan.folder))
        _place(plan, settings, commands)
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan.save()
    states = {job.name: Run(plan.folder / job.name).state() for job in plan.jobs}
    for name, error in refused.items():
        record_failure(plan.folder / name, settings[name], error)
    left = [name for name, state in states.items() if state not in ("finished", "running")]
    todo = [name for name in left if name not in refused]
    if at_once > 1:
        todo.sort(key=lambda name: -work[name])  # the longest first, so that none is left to run alone at the end
    finished = sum(state == "finished" for state in states.values())
    if finished:
        log.info("%d of %d jobs are finished already and skipped", finished, len(plan.jobs))
    if len(left) + finished < len(plan.jobs):
        log.info("%d jobs are being run by another process", len(plan.jobs) - len(left) - finished)

    run = Jobs(task, str(plan.folder), {name: settings[name] for name in todo}, commands, at_once, time.time())
    if at_once == 0:
        codes = launch(config_name, theirs, run, todo)
    else:
        codes = run_side_by_side(run, todo) if at_once > 1 else run_in_turn(run, todo)
    plan.write()
    named = [override for override in ours if not override.startswith("sweep.name=")]
    again = ["python", sys.argv[0], "-m", *named, *theirs, f"sweep.name={plan.folder.name}"]
    return _conclude(plan, max(codes, default=0), shlex.join(again))


def expand(overrides: Sequence[str], loader: ConfigLoader | None = None) -> tuple[list[list[str]], list[str]]:
    """The overrides of each job, and the keys that are swept; the loader knows what a `glob` stands for.

    Raises:
        UsageError: a swept value is empty.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    if not jobs:
        raise UsageError(f"{' '.join(o for o in overrides if o.partition('=')[0] in swept)}: stands for no job")
    for job in jobs:
        for override in job:
            key, _, value = override.partition("=")
            if key in swept and value in ("", "''", '""'):
                raise UsageError(f"{key}=: an empty value in a sweep")
    return [list(job) for job in jobs], swept


def _folder(config: DictConfig) -> Path:
    """Where the sweep lies or will lie."""
    parent = Path(config.output_root).expanduser() / "sweeps"
    if config.sweep.name is not None:
        return parent / folder_name(str(config.sweep.name))
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return parent / next(name for name in suffixed(now) if not (parent / name).exists())


def _new_folder(wanted: Path) -> Path:
    """The folder wanted, made now, or another if a sweep that began in the same second has taken it meanwhile."""
    wanted.parent.mkdir(parents=True, exist_ok=True)

    def is_ours(folder: Path) -> bool:
        try:
            folder.mkdir()
        except FileExistsError:
            return False
        return True

    return next(filter(is_ours, map(wanted.with_name, suffixed(wanted.name))))


def _place(plan: Sweep, settings: Mapping[str, dict[str, Any]], commands: Mapping[str, list[str]]) -> None:
    """Name the sweep's folder in the settings and commands of its jobs."""
    for name, command in commands.items():
        settings[name]["sweep"]["name"] = plan.folder.name
        command[:] = [o for o in command if not o.startswith("sweep.name=")] + [f"sweep.name='{plan.folder.name}'"]


def _command(typed: Sequence[str]) -> list[str]:
    """The overrides that tell one sweep from another."""
    return [override for override in typed if override.partition("=")[0] not in ("sweep.name", "sweep.metric")]


def _as_before(folder: Path, typed: Sequence[str]) -> list[str]:
    """The overrides in the order in which the sweep in the folder, if there is one, was typed first: it names the jobs.

    Raises:
        UsageError: the folder holds the sweep of another command.
    """
    if not (folder / "sweep.yaml").is_file():
        return list(typed)
    there, here = Sweep.open(str(folder)).command, _command(typed)
    gone, new = ([o for o in one if o not in other] for one, other in ((there, here), (here, there)))
    if gone or new:
        raise UsageError(
            f"sweep.name={folder.name}: holds the sweep of another command; "
            + "; ".join(f"{where}: {' '.join(part)}" for where, part in (("there", gone), ("here", new)) if part)
        )
    return [*there, *(override for override in typed if override not in there)]


def _plan(
    folder: Path, metric: Any, jobs: Sequence[Sequence[str]], swept: Sequence[str], typed: Sequence[str]
) -> Sweep:
    """The sweep of these jobs.

    Raises:
        UsageError: the metric is unknown.
    """
    try:
        check_metric(metric)
    except ArgumentError as error:
        raise UsageError(f"sweep.{error}") from error
    names: list[str] = []
    for job in jobs:
        parts = [folder_name(override.lstrip("+")) for override in job if override.partition("=")[0] in swept]
        base = "_".join(parts)[:_LONGEST_NAME] or "job"
        names.append(base if base not in names else f"{base}_{names.count(base) + len(names)}")
    differing = [
        {key.lstrip("+"): value for key, _, value in (o.partition("=") for o in job) if key in swept} for job in jobs
    ]
    described = [Job(name, overrides) for name, overrides in zip(names, differing, strict=True)]
    return Sweep(folder, _command(typed), [key.lstrip("+") for key in swept], metric, described)


def _checked(
    task: str, plan: Sweep, settings: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, UsageError], dict[str, int]]:
    """The jobs whose settings are refused, each valid by itself in another job; and how much work each other one is.

    Raises:
        UsageError: a setting is refused in every job that has it, or an earlier try of a job had others.
    """
    refused: dict[str, UsageError] = {}
    work: dict[str, int] = {}
    for job in plan.jobs:
        try:
            work[job.name] = call(task, settings[job.name])
        except MadeOtherwise:  # its results are there: nothing may be written over them
            raise
        except UsageError as error:
            refused[job.name] = error
    for key in plan.swept or [""]:
        for value in {job.overrides.get(key) for job in plan.jobs}:
            same = [job.name for job in plan.jobs if job.overrides.get(key) == value]
            if all(name in refused for name in same):
                raise refused[same[0]]
    return refused, work


def _conclude(plan: Sweep, code: int, again: str) -> int:
    """Print the table and what failed; returns the sweep's exit code."""
    plan.show(make_console())
    print(f"summary: {plan.folder / 'summary.md'}, .csv, .png")
    print(f"look at it: tensorboard --logdir {shlex.quote(str(plan.folder))}")
    if code >= 128:
        log.warning("stopped; the same command continues it: %s", again)
        return code
    failures = plan.failures()
    for name, error in failures:
        log.error("%s failed: %s", name, error)
    left = [job.name for job in plan.jobs if Run(plan.folder / job.name).state() in ("new", "interrupted")]
    if left:
        log.error("not finished: %s; the same command continues: %s", ", ".join(left), again)
    return int(bool(failures) or bool(left) or code != 0)


def _jobs_at_once(launcher: DictConfig, trainer: Mapping[str, Any]) -> int:
    """How many jobs run at once on this machine; 0 if they run elsewhere.

    Raises:
        UsageError: it is no number of jobs.
    """
    if "n_jobs" not in launcher:
        return 1 if "basic" in str(launcher._target_) else 0
    jobs = launcher.n_jobs
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0 or jobs < -1:
        raise UsageError(
            f"hydra.launcher.n_jobs={shown(jobs)}: must be a number of jobs, or -1 for one on each GPU or else core"
        )
    return jobs if jobs > 0 else gpus_for(trainer) or os.cpu_count() or 1


def main(arguments: Sequence[str]) -> int:
    """Write and print the summary of the sweep in a folder; returns the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m deblur.sweep FOLDER", file=sys.stderr)
        return 2
    try:
        plan = Sweep.open(arguments[0])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    plan.write()
    plan.show(make_console())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
