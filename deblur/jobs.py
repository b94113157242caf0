"""Running the jobs of a sweep: in turn, side by side on one machine, or by one of Hydra's launchers."""

from __future__ import annotations

import copy
import gc
import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from deblur.cli import CONFIGS, call, prepare_logging
from deblur.errors import UsageError, shown
from deblur.summary import Sweep
from deblur.training.run import InUse, MadeOtherwise, Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jobs:
    """The jobs of a sweep that are to run; called with a name, runs it, in this process or another.

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
        except MadeOtherwise as error:  # by another sweep of this name, since this one has looked
            log.error("%s", error)
            return 1
        except Exception as error:
            if not isinstance(error, UsageError):
                log.exception("%s", name)  # no user's fault, but still the failure of one job alone
            self.record(name, error)
            return 1
        finally:
            gc.collect()  # of a job that failed the error holds what was in memory, of a GPU perhaps
            Sweep.open(self.folder).write()

    def launched(self, config: DictConfig) -> int:
        """Run the job of a config that one of Hydra's launchers has composed, on another machine."""
        name = config.sweep.job
        return self(name, list(self.settings).index(name))

    def record(self, name: str, error: Exception) -> None:
        """Write down that a job failed of which nothing else could tell."""
        record_failure(Path(self.folder) / name, self.settings[name], error)

    def _time_left(self) -> str:
        states = [Run(Path(self.folder) / name).state() for name in self.settings]
        ended = sum(state in ("finished", "failed") for state in states)
        if not ended:
            return ""
        left = (time.time() - self.started) / ended * (len(states) - ended)
        return f" (about {left / 60:.0f} min left)" if left > 90 else f" (about {left:.0f} s left)"


def run_in_turn(run: Jobs, names: Sequence[str]) -> list[int]:
    """The exit codes of the jobs, run one after the other until one is interrupted."""
    codes = []
    for name in names:
        codes.append(run(name, 0))
        if codes[-1] >= 128:
            break
    return codes


def run_side_by_side(run: Jobs, names: Sequence[str]) -> list[int]:
    """The exit codes of the jobs, so many at once; 128 + the signal if one stopped them all."""
    from deblur.processes import run_side_by_side as run_processes

    codes = []

    def ended(name: str, code: int) -> None:
        if code < 0:
            run.record(name, RuntimeError(f"its process was ended by {signal.Signals(-code).name}"))
            Sweep.open(run.folder).write()
        codes.append(code if 0 <= code < 128 else 1)  # of a signal to one job alone the others know nothing

    told = run_processes(run, names, run.at_once, ended)
    return codes if told is None else [128 + told]


def launch(config_name: str, overrides: Sequence[str], run: Jobs, names: Sequence[str]) -> list[int]:
    """The exit codes of the jobs, run by the launcher that Hydra's own overrides name."""
    if not names:
        return []
    with hydra_at_work() as loader:
        config = loader.load_configuration(config_name, [*overrides, *run.commands[names[0]]], RunMode.RUN)
        jobs = _launched(loader, config, run, names)
    codes = []
    for name, job in zip(names, jobs, strict=True):
        if job.status is JobStatus.FAILED:
            run.record(name, job._return_value)
        codes.append(1 if job.status is JobStatus.FAILED else int(job.return_value))
    return codes


def _launched(loader: ConfigLoader, config: DictConfig, run: Jobs, names: Sequence[str]) -> Sequence[JobReturn]:
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
    gpus = gpus_for(trainer)
    return [place % gpus] if gpus > 1 else 1


def gpus_for(trainer: Mapping[str, Any]) -> int:
    """How many GPUs there are for jobs with these settings."""
    import torch

    return torch.cuda.device_count() if trainer["accelerator"] in ("auto", "gpu", "cuda") else 0


def record_failure(folder: Path, settings: Mapping[str, Any], error: Exception) -> None:
    """Write down a job that could not start."""
    run = Run(folder)
    if run.state() == "running":
        return  # by another process, which will write how it ends
    folder.mkdir(parents=True, exist_ok=True)
    if not run.checkpoints:  # else it goes on with the settings that it has been trained with
        run.write_config(settings)
    run.write_results(status="failed", name=settings["name"], metrics={}, error=shown(error))


@contextmanager
def hydra_at_work() -> Iterator[ConfigLoader]:
    """Within the block, Hydra is at work, and what is handed over composes its configs."""
    GlobalHydra.instance().clear()
    initialize_config_dir(str(CONFIGS), version_base="1.3")
    try:
        yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().clear()
