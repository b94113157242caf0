"""What a run writes down about itself while it trains: its config, how it stands, its log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from typing import Any

from deblur.errors import UsageError, shown
from deblur.training.checkpoint import Interrupted
from deblur.training.module import Diverged
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
    error: BaseException | None,
    images_per_second: float | None,
    seconds: float,
    trial: bool,
) -> dict[str, Any]:
    """Write how the run ended, and say so if it is not well; returns the results.

    Args:
        run: its folder.
        metrics: by the dashboard's names.
        error: that ended it, or None.
        images_per_second: of the training, or None if it cannot be told.
        seconds: since it began or was continued.
        trial: whether it is one of a search, which continues it itself.
    """
    changes: dict[str, Any] = {
        "status": "finished",
        "metrics": metrics,
        "seconds": run.results().get("seconds", 0.0) + seconds,
    }
    if images_per_second is not None:
        changes["images_per_second"] = images_per_second
    if isinstance(error, Interrupted):
        changes |= {"status": "interrupted", "error": shown(error)}
        how = f"continue with: python train.py resume={run.path}" if run.last.is_file() else "no checkpoint was saved"
        log.warning("%s%s", changes["error"], "" if trial else f"; {how}")  # a trial is continued by its search
    elif isinstance(error, Pruned):
        changes["status"] = "pruned"
        log.info("%s", error)
    elif error is not None:
        changes |= {"status": "failed", "error": shown(error) or type(error).__name__}
        trace = "" if isinstance(error, Diverged | UsageError) else "\n" + "".join(traceback.format_exception(error))
        log.error("failed: %s%s", changes["error"], trace)
        if run.last.is_file():
            log.error("the last good checkpoint is %s", run.last)
    return run.write_results(**changes)


@contextmanager
def log_file(run: Run) -> Iterator[None]:
    """Within the block, all messages also go to the run's train.log."""
    handler = logging.FileHandler(run.path / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for early in [h for h in logging.getLogger().handlers if isinstance(h, MemoryHandler)]:
        early.setTarget(handler)  # what was said before there was a folder
        early.close()
        logging.getLogger().removeHandler(early)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
