"""Many runs of one command: `-m key=a,b` expands to a job for each combination, each a run in one sweep folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from deblur.cli import CONFIGS, call, compose, plain, prepare_logging
from deblur.errors import UsageError, shown

log = logging.getLogger(__name__)


def sweep(config_name: str, task: str, arguments: Sequence[str]) -> int:
    """Run all jobs of a command line with `-m`; returns 0, or 1 if a job failed.

    Every job is composed and checked before the first one starts. Settings that are wrong by themselves are an error
    of the command; those that are wrong only together fail their own job.

    Raises:
        UsageError: an override is refused in every job that has it; nothing was started.
    """
    prepare_logging()
    overrides = get_args_parser().parse_args(list(arguments)).overrides
    jobs, swept = expand(overrides)
    names = _job_names(jobs, swept)
    sweep_name = _sweep_name(config_name, jobs[0])
    commands = [
        [*job, f"sweep.name='{sweep_name}'", f"sweep.job='{name}'"] for job, name in zip(jobs, names, strict=True)
    ]
    _check(config_name, f"{task.partition(':')[0]}:check", commands, swept)

    def job(config: DictConfig) -> int:
        prepare_logging()
        return call(task, plain(config), list(HydraConfig.get().overrides.task))

    codes = []
    with_launcher = _launcher(config_name, commands[0], job)
    for number, (command, name) in enumerate(zip(commands, names, strict=True)):
        log.info("job %d of %d: %s", number + 1, len(commands), name)
        (ended,) = with_launcher.launch([command], initial_job_idx=number)
        if ended.status is JobStatus.FAILED:
            log.error("%s failed: %s", name, shown(ended._return_value))
        codes.append(1 if ended.status is JobStatus.FAILED else ended.return_value)
    folder = Path(compose(config_name, jobs[0]).output_root) / "sweeps" / sweep_name
    log.info("%d of %d jobs finished; look at them: tensorboard --logdir %s", codes.count(0), len(codes), folder)
    return int(any(codes))


def expand(overrides: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The overrides of each job, and the keys that are swept.

    Raises:
        UsageError: a swept value is empty.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    for job in jobs:
        for override in job:
            key, _, value = override.partition("=")
            if key in swept and not value:
                raise UsageError(f"{key}=: an empty value in a sweep")
    return [list(job) for job in jobs], swept


def _job_names(jobs: Sequence[Sequence[str]], swept: Sequence[str]) -> list[str]:
    """A folder name for each job: the overrides that differ."""
    from deblur.training.run import folder_name

    names = []
    for job in jobs:
        parts = [folder_name(override.lstrip("+")) for override in job if override.partition("=")[0] in swept]
        names.append("_".join(parts) or "job")
    return names


def _sweep_name(config_name: str, job: Sequence[str]) -> str:
    from deblur.training.run import folder_name

    name = compose(config_name, job).sweep.name
    return folder_name(str(name)) if name is not None else datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _check(config_name: str, task: str, commands: Sequence[Sequence[str]], swept: Sequence[str]) -> None:
    refused: dict[int, UsageError] = {}
    for number, command in enumerate(commands):
        config = compose(config_name, command, with_hydra=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        try:
            call(task, plain(config))
        except UsageError as error:
            refused[number] = error
    if len(refused) == len(commands):
        raise refused[0]
    for key in swept:
        values = {number: next(o for o in c if o.partition("=")[0] == key) for number, c in enumerate(commands)}
        for value in values.values():
            if all(number in refused for number, other in values.items() if other == value):
                raise next(refused[number] for number, other in values.items() if other == value)


def _launcher(config_name: str, command: Sequence[str], job: Any) -> Any:
    GlobalHydra.instance().clear()
    from hydra import initialize_config_dir

    initialize_config_dir(str(CONFIGS), version_base="1.3")
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration(config_name, list(command), run_mode=RunMode.RUN)
    context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=config)
