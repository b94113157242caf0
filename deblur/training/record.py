"""What a run writes down about itself while it trains: its config, how it stands, its log."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from typing import Any

import torch

from deblur.errors import UsageError, shown
from deblur.training.checkpoint import Interrupted
from deblur.training.guard import Diverged
from deblur.training.report import versions
from deblur.training.run import Run
from deblur.training.trial import Pruned

log = logging.getLogger(__name__)


def begin(run: Run, settings: Mapping[str, Any], parameters: int, source: str, *, continued: bool) -> None:
    """Write the run's config and that it is running.

    Args:
        run: its folder.
        settings: resolved to plain containers.
        parameters: of the network.
        source: of the data.
        continued: whether it goes on from a checkpoint.
    """
    before = run.results() if continued else {}
    run.write_config(settings)
    run.write_results(
        status="running",
        name=settings["name"],
        metrics=before.get("metrics", {}),
        parameters=parameters,
        best_epoch=before.get("best_epoch"),
        images_per_second=before.get("images_per_second"),
        seconds=before.get("seconds", 0.0),
        data_source=source,
        versions=versions(),
        error=None,
    )
    log.info("run: %s%s", run.path, " (continued)" if continued else "")


def conclude(
    run: Run,
    metrics: Mapping[str, float],
    best_epoch: int | None,
    error: BaseException | None,
    images_per_second: float | None,
    seconds: float,
    trial: bool,
) -> dict[str, Any]:
    """Write how the run ended, and say so if it is not well; returns the results.

    Args:
        run: its folder.
        metrics: by the dashboard's names: of the best checkpoint on validation, and on the test images. Those of a run
            that has not come to its end are left out.
        best_epoch: of that checkpoint, the first being 0; None if none was chosen. It is written as train.log counts,
            from 1.
        error: that ended it, or None.
        images_per_second: of the training, or None if it cannot be told.
        seconds: since it began or was continued.
        trial: whether it is one of a search, which continues it itself.
    """
    ended = error is None or isinstance(error, Pruned)
    changes: dict[str, Any] = {
        "status": "finished",
        "metrics": metrics if ended else {},
        "best_epoch": best_epoch + 1 if ended and best_epoch is not None else None,
        "seconds": run.results().get("seconds", 0.0) + seconds,
    }
    if images_per_second is not None:
        changes["images_per_second"] = images_per_second
    if isinstance(error, Interrupted):
        changes |= {"status": "interrupted", "error": shown(error)}
        how = f"continue with: python train.py resume={run.path}" if run.checkpoints else "no checkpoint was saved"
        log.warning("%s%s", changes["error"], "" if trial else f"; {how}")  # a trial is continued by its search
    elif isinstance(error, Pruned):
        changes["status"] = "pruned"
        log.info("%s", error)
    elif error is not None:
        changes |= {"status": "failed", "error": _told(error)}
        expected = isinstance(error, Diverged | UsageError | OSError) or is_want_of_memory(error)
        trace = "" if expected else "\n" + "".join(traceback.format_exception(error))
        log.error("failed: %s%s", changes["error"], trace)
        if run.checkpoints:
            log.error("the last good checkpoint is %s", run.checkpoints[0])
    try:
        return run.write_results(**changes)
    except OSError as failure:
        log.error("how it ended cannot be written down: %s", _told(failure))
        return run.results() | changes


def _told(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        return f"{file}: {error.strerror}" if file is not None else error.strerror
    if is_want_of_memory(error):
        return f"out of memory; lower data.batch_size or the sizes of the model ({shown(error)})"
    return shown(error) or type(error).__name__


def is_want_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the machine or of its GPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


@contextmanager
def log_file(run: Run) -> Iterator[None]:
    """Within the block, all messages also go to the run's train.log, and what other threads raise goes there alone."""
    handler = logging.FileHandler(run.path / "train.log", encoding="utf-8")
    handler.handleError = lambda record: None  # a full disk: the screen still says what happened
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for early in [h for h in logging.getLogger().handlers if isinstance(h, MemoryHandler)]:
        early.setTarget(handler)  # what was said before there was a folder
        early.close()
        logging.getLogger().removeHandler(early)
    logging.getLogger().addHandler(handler)
    before, threading.excepthook = threading.excepthook, _log_thread
    try:
        yield
    finally:
        threading.excepthook = before
        logging.getLogger().removeHandler(handler)
        handler.close()


def _log_thread(raised: threading.ExceptHookArgs) -> None:
    """Note what a thread has died of: the dashboard's writer hands its error over when it is next asked to write."""
    trace = "".join(traceback.format_exception(raised.exc_type, raised.exc_value, raised.exc_traceback))
    logging.getLogger("threading").warning("%s", trace)
