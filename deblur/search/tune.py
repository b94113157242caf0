"""The flow of a search: check, train trial after trial, and end with an answer."""

from __future__ import annotations

import importlib.util
import logging
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deblur.cli import make_console, only_warnings_on_screen
from deblur.errors import UsageError, shown
from deblur.search.plan import Search, movable
from deblur.training.checkpoint import STOPPING, Interrupted, raising_when_told
from deblur.training.settings import differences
from deblur.training.train import train_trial
from deblur.training.trial import TrialWatch

if TYPE_CHECKING:
    from deblur.search.study import Claim, Row, Study

log = logging.getLogger(__name__)


def tune(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Search for the best settings; returns 0, 1 if no trial came to an end, or 128 + the signal that stopped it.

    The same command continues the search, and started twice works on it twice as fast.

    Args:
        settings: composed from `configs/tune.yaml`, resolved to plain containers.
        typed: this command's overrides, as Hydra keeps them.

    Raises:
        UsageError: the command is refused; nothing was started or written.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UsageError('tune.py needs optuna, which is not installed: pip install -e ".[search]"')
    from deblur.search.study import Study

    study: Study | None = None
    with raising_when_told(signal.SIGINT, *STOPPING):
        try:
            search = Search.of(settings, typed)
            search.check()
            study = Study(search)
            _greet(study)
            _work(study)
            return _conclude(study, 0)
        except Interrupted as stopped:
            code = stopped.exit_code
    if study is None:
        log.warning("stopped before the first trial")
        return code
    return _conclude(study, code)


def _work(study: Study) -> None:
    """Train trials until there are as many as there shall be.

    Raises:
        Interrupted: a signal came.
    """
    from deblur.search.report import write_report

    started, done = time.monotonic(), _ended(study.rows())
    while (claim := study.claim()) is not None:
        try:
            code = 0 if claim.has_ended else _train(study, claim)
            if code >= 128:
                raise Interrupted(code - 128)
            row = study.settle(claim)
        finally:
            claim.run.unlock()
        rows = study.rows()
        spent = (time.monotonic() - started) / max(_ended(rows) - done, 1)
        log.info("%s%s", _line(study, row), _time_left(spent * (study.search.trials - _ended(rows))))
        write_report(study)


def _train(study: Study, claim: Claim) -> int:
    """Train the trial, from its last checkpoint if it has one; returns the exit code."""
    search, run = study.search, claim.run
    searched: dict[str, float | str] = {
        entry.name: claim.values[entry.key] if entry.kind == "categorical" else float(claim.values[entry.key])
        for entry in search.entries
    }
    watch = TrialWatch(
        search.metric,
        searched,
        report=lambda epochs, value: study.report(claim, epochs, value),
        is_hopeless=lambda: study.is_hopeless(claim),
    )
    settings: dict[str, Any] | None = None
    try:
        settings = search.settings(claim.values)
        if run.checkpoints:
            other = differences(movable(run.config()), movable(settings))
            if other:
                raise UsageError(f"was begun with {' '.join(other)}, which the configs no longer give")
            log.info("%s was interrupted and goes on from its last checkpoint", run.path.name)
        with only_warnings_on_screen():
            return train_trial(run, settings, watch)
    except UsageError as error:  # these values are refused together, or the checkpoint is damaged
        if settings is not None and not run.config_path.is_file():
            run.write_config(settings)
        run.write_results(status="failed", metrics={}, error=shown(error))
        return 1


def _greet(study: Study) -> None:
    search, rows = study.search, study.rows()
    keys = ", ".join(entry.name for entry in search.entries)
    log.info("search: %s, %d trials over %s, by %s", search.folder, search.trials, keys, search.metric)
    if search.given:
        log.info("not searched, because the command gives them a value: %s", ", ".join(search.given))
    states = [row.status for row in rows]
    if _ended(rows):
        log.info("trials that have ended already: %d", _ended(rows))
    if "running" in states:
        log.info("trials that another process runs: %d", states.count("running"))
    if "interrupted" in states:
        log.info("interrupted trials, to be continued: %d", states.count("interrupted"))


def _line(study: Study, row: Row) -> str:
    """How a trial ended: which of how many, its settings, its result, the best so far."""
    from deblur.search.report import result_text, settings_text

    search, best = study.search, study.best()
    result = f"{search.metric} {result_text(search, row.value)}"
    if row.status == "failed":
        result = f"failed: {row.error}"
    elif row.status == "pruned":
        result = f"pruned after {row.epochs} epochs at {result}"
    so_far = f", best {result_text(search, best.value)} ({best.name})" if best is not None else ""
    return f"{row.name} ({row.number + 1} of {search.trials})  {settings_text(row.values)}  {result}{so_far}"


def _time_left(seconds: float) -> str:
    if seconds <= 0:
        return ""
    if seconds < 90:
        return f", about {seconds:.0f} s left"
    return f", about {seconds / 60:.0f} min left" if seconds < 5400 else f", about {seconds / 3600:.1f} h left"


def _ended(rows: Sequence[Row]) -> int:
    return sum(row.status in ("finished", "pruned", "failed") for row in rows)


def _conclude(study: Study, code: int) -> int:
    """Say what failed, what is best and how to go on; returns the exit code."""
    from deblur.search.experiment import publish_experiment
    from deblur.search.report import result_text, settings_text, show_table, write_report

    write_report(study)
    show_table(study, make_console())
    search, rows, best = study.search, study.rows(), study.best()
    failed = [row for row in rows if row.status == "failed"]
    print(f"summary: {search.folder / 'summary.md'}, .csv; history.png, importances.png")
    print(f"look at it: tensorboard --logdir {shlex.quote(str(search.folder))}")
    if best is not None:
        print(f"best: {best.name}, {search.metric} {result_text(search, best.value)}: {settings_text(best.values)}")
        print(f"its settings: {search.folder / 'best.yaml'}")
    if code:
        log.warning("stopped; the same command continues it: %s", shlex.join(["python", *sys.argv]))
        return code
    for row in failed:
        log.warning("%s failed: %s", row.name, row.error)
    running = sum(row.status == "running" for row in rows)
    if running:
        log.info("%d trials are still being run by another process, which ends the search", running)
    if best is None:
        if not running:
            log.error("no trial came to an end")
        return int(not running)
    publish_experiment(search)
    if search.experiment_file is not None:
        print(f"train with them: python train.py experiment={search.experiment}  ({search.experiment_file})")
    return 0
