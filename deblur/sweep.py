"""Many runs of one command: `-m key=a,b` expands to a job for each combination, each a run in one sweep folder.

`python -m deblur.sweep <folder>` writes and prints a sweep's table again.
"""

from __future__ import annotations

import copy
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from deblur.cli import CONFIGS, call, compose, make_console, prepare_logging, settings_of
from deblur.errors import ArgumentError, UsageError, shown
from deblur.summary import Job, Sweep, check_metric
from deblur.training.run import InUse, MadeOtherwise, Run, folder_name, suffixed

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
    with _hydra() as loader:
        at_once = _jobs_at_once(loader.load_configuration(config_name, theirs, RunMode.RUN))
        first = expand(ours, loader)[0][0]
    config = compose(config_name, first)
    folder = _folder(config)
    ours = _as_before(folder, ours)
    with _hydra() as loader:
        jobs, swept = expand(ours, loader)
    plan = _plan(folder, config.sweep.metric, jobs, swept, ours)
    place = f"sweep.name='{plan.folder.name}'"
    commands = {job.name: [*line, place, f"sweep.job='{job.name}'"] for job, line in zip(plan.jobs, jobs, strict=True)}
    if at_once > 1:
        import torch

        torch.set_num_threads(1)  # threads of this process would be missing in its copies
    settings = {name: settings_of(config_name, command)[0] for name, command in commands.items()}
    refused, work = _checked(f"{task.partition(':')[0]}:check_job", plan, settings)

    plan.folder.mkdir(parents=True, exist_ok=True)
    plan.save()
    states = {job.name: Run(plan.folder / job.name).state() for job in plan.jobs}
    for name, error in refused.items():
        _record(plan.folder / name, settings[name], error)
    left = [name for name, state in states.items() if state not in ("finished", "running")]
    todo = [name for name in left if name not in refused]
    if at_once > 1:
        todo.sort(key=lambda name: -work[name])  # the longest first, so that none is left to run alone at the end
    finished = sum(state == "finished" for state in states.values())
    if finished:
        log.info("%d of %d jobs are finished already and skipped", finished, len(plan.jobs))
    if len(left) + finished < len(plan.jobs):
        log.info("%d jobs are being run by another process", len(plan.jobs) - len(left) - finished)

    run = _Task(task, str(plan.folder), {name: settings[name] for name in todo}, commands, at_once, time.time())
    if at_once == 0:
        codes = _launch(config_name, theirs, run, todo)
    else:
        codes = _run_side_by_side(run, todo) if at_once > 1 else _run_in_turn(run, todo)
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


@dataclass(frozen=True)
class _Task:
    """What runs a job, in this process or another.

    Attributes:
        task: `module:function` that trains.
        folder: of the sweep.
        settings: of each job that is to run, by name.
        commands: the overrides of each job.
        at_once: jobs at one time on this machine; 0 if they run elsewhere.
        started: when the sweep did, seconds.
    """

    task: str
    folder: str
    settings: dict[str, dict[str, Any]]
    commands: dict[str, list[str]]
    at_once: int
    started: float

    def __call__(self, name: str, place: int) -> int:
        prepare_logging()
        number = list(self.settings).index(name) + 1
        log.info("job %d of %d: %s%s", number, len(self.settings), name, self._time_left())
        settings = copy.deepcopy(self.settings[name])
        settings["trainer"]["devices"] = _device(settings["trainer"], place)
        if self.at_once != 1:
            settings["trainer"]["enable_progress_bar"] = False
        if self.at_once > 1:
            import torch

            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.at_once))
        try:
            return call(self.task, settings, self.commands[name])
        except InUse as error:  # since this sweep has looked; the other process will write how it ends
            log.info("%s", error)
            return 0
        except Exception as error:
            if not isinstance(error, UsageError):
                log.exception("%s", name)  # no user's fault, but still the failure of one job alone
            self.record(name, error)
            return 1
        finally:
            Sweep.open(self.folder).write()

    def launched(self, config: DictConfig) -> int:
        """Run the job of a config that one of Hydra's launchers has composed, on another machine."""
        name = config.sweep.job
        return self(name, list(self.settings).index(name))

    def record(self, name: str, error: Exception) -> None:
        """Write down that a job failed of which nothing else could tell."""
        _record(Path(self.folder) / name, self.settings[name], error)

    def _time_left(self) -> str:
        states = [Run(Path(self.folder) / name).state() for name in self.settings]
        ended = sum(state in ("finished", "failed") for state in states)
        if not ended:
            return ""
        left = (time.time() - self.started) / ended * (len(states) - ended)
        return f" (about {left / 60:.0f} min left)" if left > 90 else f" (about {left:.0f} s left)"


def _run_in_turn(run: _Task, names: Sequence[str]) -> list[int]:
    """The exit codes of the jobs, run one after the other until one is interrupted."""
    codes = []
    for name in names:
        codes.append(run(name, 0))
        if codes[-1] >= 128:
            break
    return codes


def _run_side_by_side(run: _Task, names: Sequence[str]) -> list[int]:
    """The exit codes of the jobs, so many at once; 128 + the signal if one stopped them all."""
    from deblur.processes import run_side_by_side

    codes = []

    def ended(name: str, code: int) -> None:
        if code < 0:
            run.record(name, RuntimeError(f"its process was ended by {signal.Signals(-code).name}"))
            Sweep.open(run.folder).write()
        codes.append(1 if code < 0 else code)

    told = run_side_by_side(run, names, run.at_once, ended)
    return codes if told is None else [128 + told]


def _launch(config_name: str, overrides: Sequence[str], run: _Task, names: Sequence[str]) -> list[int]:
    """The exit codes of the jobs, run by the launcher that Hydra's own overrides name."""
    if not names:
        return []
    with _hydra() as loader:
        config = loader.load_configuration(config_name, [*overrides, *run.commands[names[0]]], RunMode.RUN)
        jobs = _launched(loader, config, run, names)
    codes = []
    for name, job in zip(names, jobs, strict=True):
        if job.status is JobStatus.FAILED:
            run.record(name, job._return_value)
        codes.append(1 if job.status is JobStatus.FAILED else int(job.return_value))
    return codes


def _launched(loader: ConfigLoader, config: DictConfig, run: _Task, names: Sequence[str]) -> Sequence[JobReturn]:
    if "submitit_folder" in config.hydra.launcher:
        config.hydra.launcher.submitit_folder = f"{Path(run.folder).resolve()}/.submitit/%j"
        log.info("%d jobs are submitted; what they print lies in %s", len(names), Path(run.folder) / ".submitit")
    context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
    plugins = Plugins.instance()
    launcher = plugins.instantiate_launcher(hydra_context=context, task_function=run.launched, config=config)
    return launcher.launch([run.commands[name] for name in names], 0)


def _device(trainer: Mapping[str, Any], place: int) -> Any:
    """The devices of a job: one, and on a machine with several GPUs each job's another."""
    if trainer["devices"] != "auto":
        return trainer["devices"]
    import torch

    if trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.device_count() > 1:
        return [place % torch.cuda.device_count()]
    return 1


def _record(folder: Path, settings: Mapping[str, Any], error: Exception) -> None:
    """Write down a job that could not start."""
    run = Run(folder)
    if run.state() == "running":
        return  # by another process, which will write how it ends
    folder.mkdir(parents=True, exist_ok=True)
    run.write_config(settings)
    run.write_results(status="failed", name=settings["name"], metrics={}, error=shown(error))


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


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    """Within the block, Hydra is at work, and what is handed over composes its configs."""
    GlobalHydra.instance().clear()
    initialize_config_dir(str(CONFIGS), version_base="1.3")
    try:
        yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().clear()


def _jobs_at_once(config: DictConfig) -> int:
    """How many jobs run at once on this machine; 0 if they run elsewhere.

    Raises:
        UsageError: it is no number of jobs.
    """
    launcher = config.hydra.launcher
    if "n_jobs" not in launcher:
        return 1 if "basic" in str(launcher._target_) else 0
    jobs = launcher.n_jobs
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0 or jobs < -1:
        raise UsageError(f"hydra.launcher.n_jobs={shown(jobs)}: must be a number of jobs, or -1 for one on each core")
    return jobs if jobs > 0 else os.cpu_count() or 1


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
