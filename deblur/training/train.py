"""One training, from settings to results."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.flop_counter import FlopCounterMode

from deblur.blur import Motion
from deblur.build import EVERYTHING, build, constructor_parameters, trusting
from deblur.cli import make_console
from deblur.data.module import DeblurDataModule, downloading_only_to
from deblur.errors import UsageError, check_path, shown
from deblur.figures import draw_blur
from deblur.folders import writing_to
from deblur.metric_names import metric_mode
from deblur.seeding import seed_of
from deblur.summary import swept_settings
from deblur.training.averaging import MovingAverage
from deblur.training.checkpoint import (
    STOPPING,
    Interrupted,
    RunCheckpoint,
    raising_when_told,
    read_checkpoint,
)
from deblur.training.guard import Diverged
from deblur.training.logger import RunLogger
from deblur.training.module import DeblurModule
from deblur.training.panels import Panels
from deblur.training.progress import ProgressLine, Throughput
from deblur.training.record import begin, conclude, log_file
from deblur.training.report import draw_figures, print_results
from deblur.training.resumption import clear, earlier_try, is_finished, keep_as_last, where_to_go_on
from deblur.training.run import (
    PUBLISHED,
    InUse,
    Run,
    folder_name,
    telling_version,
    trained_checkpoint,
)
from deblur.training.settings import MAY_DIFFER, check_settings, resumed_settings, section, summary_of
from deblur.training.task import check_psfs, complete_task, load_estimator
from deblur.training.trainer import check_trainer, fit, make_trainer
from deblur.training.trial import Pruned, TrialWatch
from deblur.training.weights import read_weights

log = logging.getLogger(__name__)

# Lightning starts further processes with the same command line: they take the run, and its settings, from the first.
_RUN_VARIABLE = "DEBLUR_RUN"


@dataclass
class Plan:
    """A training that was checked and can start; nothing is written yet."""

    settings: dict[str, Any]
    data: DeblurDataModule
    module: DeblurModule
    checkpoint: RunCheckpoint


def check_job(composed: Mapping[str, Any]) -> int:
    """Check the settings of a sweep's job without starting it; returns its work in operations, 0 if it is finished.

    Raises:
        UsageError: a setting is refused.
        MadeOtherwise: an earlier try of the job had others.
    """
    check_settings(composed)
    refuse_processes(composed, "a job of a sweep (-m)")
    earlier = earlier_try(composed)
    if earlier is not None and earlier.state() == "finished" and earlier.checkpoints:
        return 0
    with trusting(EVERYTHING):
        return _work(make_plan(composed))


def _work(plan: Plan) -> int:
    """Operations of the network over all images of all epochs: in what order jobs take longer, not how long."""
    psf = torch.ones(1, 1, 1, 1) if plan.module.takes_psf else None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plan.module.eval()(torch.zeros(1, *plan.data.image_shape), psf)
    return counter.get_total_flops() * len(plan.data.images.train) * plan.settings["trainer"]["max_epochs"]


def refuse_processes(settings: Mapping[str, Any], what: str) -> None:
    """Refuses settings for several processes or devices, for what is one of many runs.

    Raises:
        UsageError: they are.
    """
    strategy, devices, nodes = (settings["trainer"].get(key) for key in ("strategy", "devices", "num_nodes"))
    several = str(strategy).startswith(("ddp", "fsdp", "deepspeed")) or nodes not in (None, 1)  # None: of older runs
    if several or devices not in ("auto", 1, "1"):
        raise UsageError(
            f"trainer.strategy={strategy} trainer.devices={shown(devices)} trainer.num_nodes={shown(nodes)}: {what} is "
            "one process on one device; start runs of several processes one by one"
        )


def train(composed: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Train, test and report one run; returns the exit code (0, 1 if it failed, 128 + the signal that stopped it).

    Args:
        composed: the settings of this command, resolved to plain containers.
        typed: this command's overrides, as Hydra keeps them.

    Raises:
        UsageError: the settings are refused; nothing was written.
    """
    started = time.perf_counter()
    check_settings(composed)
    inherited = os.environ.get(_RUN_VARIABLE)
    run: Run | None = None
    with ExitStack() as stack, downloading_only_to(composed["data"].get("root")):
        if inherited is not None:
            run = Run(Path(inherited))
            settings = run.config()
            stack.enter_context(trusting(EVERYTHING))
        elif composed["resume"] is not None:
            run = Run.open(str(composed["resume"]), "resume")
            if run.trained.name == PUBLISHED:
                raise UsageError(f"resume={run.path}: has no checkpoint to go on from; init=<run> can use it")
            settings = resumed_settings(run, composed, typed)
            stack.enter_context(trusting(*composed["allow"]))
            if is_finished(run, settings):
                return 0
        else:
            settings = dict(composed)
            stack.enter_context(trusting(EVERYTHING))
            run = earlier_try(composed)
            if run is not None and run.state() == "finished":
                log.info("%s: finished already", run.path)
                return 0
            if run is not None and run.state() == "running":
                raise InUse(f"{run.path}: another process is working in this run")
            if run is not None and run.checkpoints:
                settings = resumed_settings(run, composed, MAY_DIFFER)
            elif run is not None:
                clear(run)  # failed, or was killed, before there was anything to keep
                run = None
        first = rank_zero_only.rank == 0
        if run is not None and first:
            run.lock()
            stack.callback(run.unlock)
        plan, resume_from, purge_step = _prepare(settings, run)
        if not first:
            return _follow(plan, resume_from)
        if run is None:
            run = _new_run(settings)
            run.lock()
            stack.callback(run.unlock)
        os.environ[_RUN_VARIABLE] = str(run.path.resolve())
        stack.callback(os.environ.pop, _RUN_VARIABLE)
        return _execute(plan, run, resume_from, purge_step, started)


def train_trial(run: Run, settings: Mapping[str, Any], watch: TrialWatch) -> int:
    """Train one trial of a search, from its last checkpoint if it has one; it is validated, never tested.

    Args:
        run: its folder, which the caller has locked.
        settings: resolved to plain containers.
        watch: hears of every validation, and may stop the trial.

    Returns:
        The exit code, as `train` does; 0 for a trial that was stopped by `watch`, too.

    Raises:
        UsageError: the settings are refused; nothing was written.
    """
    started = time.perf_counter()
    with trusting(EVERYTHING):
        plan, resume_from, purge_step = _prepare(settings, run)
        return _execute(plan, run, resume_from, purge_step, started, watch)


def _prepare(settings: Mapping[str, Any], run: Run | None) -> tuple[Plan, Path | None, int | None]:
    """The plan, the checkpoint that a run goes on from, and the first step that it logs anew."""
    begun = run is not None and run.config_path.is_file()
    resume_from, purge_step = None, 0 if begun else None
    with telling_version(run if begun else None):
        plan = make_plan(settings)
    plan.data.check_training_images()
    if run is not None and run.checkpoints:
        resume_from, purge_step = where_to_go_on(run, settings["trainer"], plan.data)
    if resume_from is None and (plan.settings["task"] or {}).get("estimator") is not None:
        load_estimator(plan.module, plan.settings["task"]["estimator"])
    if settings["init"] is not None and resume_from is None:
        _load_weights(plan.module, str(settings["init"]))
    return plan, resume_from, purge_step


def _new_run(settings: Mapping[str, Any]) -> Run:
    with section(""):
        root = check_path("output_root", settings["output_root"], "a folder")
    if settings["sweep"]["job"] is not None:
        return Run.create(root / "sweeps" / settings["sweep"]["name"], settings["sweep"]["job"], alone=True)
    return Run.create(root / folder_name(settings["name"]))


def make_plan(settings: Mapping[str, Any]) -> Plan:
    """Build and check all parts of a training; reads (or downloads) the data, writes nothing else.

    Raises:
        UsageError: a setting is refused.
    """
    settings = dict(settings)
    check_settings(settings)
    check_trainer(settings["trainer"])
    with section("checkpoint"):
        checkpoint = RunCheckpoint(**settings["checkpoint"])
    blur = build(settings["blur"], "blur")
    data = build(settings["data"], "data", blur=blur, seed=settings["seed"])
    settings["task"] = complete_task(settings.get("task"), settings["model"], blur, data, settings["allow"])
    torch.manual_seed(seed_of("weights", settings["seed"]))
    parts = {name: settings[name] for name in ("model", "task", "loss", "optimizer", "scheduler")}
    with section("module"):
        module = build(settings["module"], "module", seed=settings["seed"], compile=settings["compile"], **parts)
    with section("data"):
        source, shape = data.images.source, data.image_shape
    with section("blur"):
        motion = blur.draw(1, shape[1:], torch.Generator().manual_seed(0))
    _check_shape(module, shape, motion)
    check_psfs(module, data, checkpoint.monitor)
    _refuse_no_batches(settings["trainer"], data)
    if "source" in constructor_parameters(type(data)):
        settings["data"] = {**settings["data"], "source": source}
    return Plan(settings, data, module, checkpoint)


def _refuse_no_batches(trainer: Mapping[str, Any], data: DeblurDataModule) -> None:
    for split in ("train", "val", "test"):
        share = trainer.get(f"limit_{split}_batches")
        batches = max(1, len(getattr(data.images, split)) / data.batch_size)
        batches = int(batches) if split == "train" else math.ceil(batches)
        if isinstance(share, float) and int(share * batches) == 0:
            raise UsageError(f"trainer.limit_{split}_batches={share}: of {batches} batches it is none")


def _check_shape(module: DeblurModule, shape: tuple[int, int, int], motion: Motion) -> None:
    try:
        with torch.no_grad():
            made = module.eval()(torch.zeros(1, *shape), motion.psf if module.takes_psf else None)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"model: {type(module.network).__name__} cannot take these images: {shown(error)}") from error
    finally:
        module.train()
    if made.shape != (1, *shape):
        raise UsageError(
            f"model: {type(module.network).__name__} makes images of shape {tuple(made.shape[1:])} from {shape}; "
            "they must be the same"
        )


def _load_weights(module: DeblurModule, path: str) -> None:
    weights = read_weights(trained_checkpoint(path, "init")).state
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(f"init={path}: its weights do not fit this model: {shown(error)}") from error


def _follow(plan: Plan, resume_from: Path | None) -> int:
    """Fit and test beside the first process, which alone writes and reports."""
    callbacks = [plan.checkpoint, Throughput(), Panels(), *_optional_callbacks(plan.settings)]
    try:
        _fit_and_test(make_trainer(plan.settings["trainer"], callbacks, logger=None), plan, resume_from)
    except Interrupted:
        return 0
    except Diverged:
        return 1
    return 0


def _execute(
    plan: Plan,
    run: Run,
    resume_from: Path | None,
    purge_step: int | None,
    started: float,
    watch: TrialWatch | None = None,
) -> int:
    """Fit, test and report a checked training in its folder; a trial (with `watch`) is not tested."""
    settings = plan.settings
    console = make_console()
    throughput, panels = Throughput(), Panels()
    wants_bar = settings["trainer"].get("enable_progress_bar", True)
    progress = ProgressLine(console, throughput, enabled=wants_bar and console.is_terminal)
    callbacks = [plan.checkpoint, throughput, panels, progress, *_optional_callbacks(settings)]
    callbacks += [] if watch is None else [watch]
    parameters = sum(parameter.numel() for parameter in plan.module.network.parameters())
    with ExitStack() as stack:
        with writing_to(run.path, "run"):
            run.tidy()
            if resume_from is not None:
                keep_as_last(run, resume_from)
            stack.enter_context(log_file(run))
            begin(run, settings, parameters, plan.data.images.source, continued=resume_from is not None)
            logger = RunLogger(run.path, purge_step)
        plan.checkpoint.folder = run.last.parent
        error: BaseException | None = None
        metrics: dict[str, float] = {}
        try:
            with raising_when_told(*STOPPING):  # while it trains, the checkpoint's own handlers save first
                if resume_from is None:
                    logger.log_config(settings)
                    first = plan.data.evaluation_pairs("val")[:8]
                    draw_blur(run.figures / "psf.png", first, title=f"blur of {run.path.name}: first validation images")
                trainer = make_trainer(settings["trainer"], callbacks, logger, run.path)
                try:
                    _fit_and_test(trainer, plan, resume_from, test=watch is None)
                    tested = {name: float(value) for name, value in trainer.callback_metrics.items()}
                    metrics = plan.checkpoint.best_metrics | tested
                except Pruned as stopped:
                    error = stopped
                if watch is not None:
                    metrics = watch.best
                swept, split = (swept_settings(run), "test") if watch is None else (watch.searched, "val")
                logger.log_summary(summary_of(settings, parameters, swept), metrics, split, swept)
                logger.save()
                draw_figures(run, panels, settings["name"])
        except (KeyboardInterrupt, SystemExit):  # Lightning exits on Ctrl-C where no checkpoint can be saved
            error = Interrupted(signal.SIGINT)
        except Exception as failure:
            error = failure
        finally:
            progress.stop()
        # A run that says finished has all its files: this is the last that is written.
        ended = error is None or isinstance(error, Pruned)
        seconds = time.perf_counter() - started
        best, speed = plan.checkpoint.best_epoch, throughput.images_per_second
        results = conclude(run, metrics, best, error, speed, seconds, trial=watch is not None)
        if ended and watch is None:
            data = f"{plan.module.metrics.images:,} images ({plan.data.origin})"
            if settings["sweep"]["job"] is None:
                print_results(console, run, results, data)
            else:  # the sweep ends with a table of all
                log.info("test: PSNR %.2f dB (%+.2f) on %s", metrics["test/psnr"], metrics["test/psnr_gain"], data)
        logger.close()
    return 0 if error is None else getattr(error, "exit_code", 1)


def _fit_and_test(trainer: Trainer, plan: Plan, resume_from: Path | None, test: bool = True) -> None:
    fit(trainer, plan.module, plan.data, resume_from)
    if not test:
        return
    best = plan.checkpoint.folder / "best.ckpt"
    # There is no best without validation; the last holds the averaged weights too, if they are averaged.
    chosen = best if best.is_file() else best.with_name("last.ckpt")
    plan.module.load_state_dict(read_checkpoint(chosen)["state_dict"])
    trainer.test(plan.module, datamodule=plan.data, verbose=False)


def _optional_callbacks(settings: Mapping[str, Any]) -> list[Callback]:
    callbacks: list[Callback] = []
    if settings["ema"]["decay"] is not None:
        callbacks.append(MovingAverage(settings["ema"]["decay"]))
    patience = settings["early_stopping"]["patience"]
    if patience is not None:
        monitor = settings["checkpoint"]["monitor"]
        callbacks.append(
            EarlyStopping(
                monitor,
                mode=metric_mode(monitor),
                patience=patience,
                min_delta=settings["early_stopping"]["min_delta"],
                check_finite=False,
            )
        )
    return callbacks
