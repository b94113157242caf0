"""Optuna's study in one journal file, shared by all processes that work on a search."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from deblur.errors import UsageError
from deblur.search.plan import Search
from deblur.search.space import Entry
from deblur.seeding import seed_of
from deblur.training.run import InUse, Run, one_at_a_time

log = logging.getLogger(__name__)

_FILE = "journal.log"
_NAME = "search"  # of the one study in the journal
_ENDED = ("finished", "pruned", "failed")


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on.

    Attributes:
        trial: Optuna's.
        run: its folder, locked by this process.
        values: of the searched settings, as typed.
    """

    trial: Trial
    run: Run
    values: dict[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether its process died after the training, before it could tell how it ended."""
        return self.run.state() in _ENDED


@dataclass(frozen=True)
class Row:
    """What is known of a trial.

    Attributes:
        number: Optuna's, from 0.
        name: of its folder.
        values: of the searched settings, as typed.
        status: of its run.
        value: the best of the metric so far.
        epochs: that were validated.
        error: why it failed.
        seconds: of training, over all tries.
    """

    number: int
    name: str
    values: dict[str, str]
    status: str
    value: float | None
    epochs: int
    error: str | None
    seconds: float | None


class Study:
    """The trials of a search: which there are, which is next, and how each ended.

    A trial belongs to the process that has locked its run's folder. The journal calls a trial running until it is told
    how it ended; one whose folder nobody has locked was interrupted, and the next that asks for work continues it.

    Args:
        search: whose folder is made if it is not there.

    Raises:
        UsageError: the folder holds another search, or its journal is damaged; nothing was written.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        known = search.check_folder()
        if known:
            _check_journal(search)
        try:
            search.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"output_root={search.folder}: cannot be made ({error.strerror})") from error
        with self.turn():
            if not search.check_folder():
                search.save()
            file = str((search.folder / _FILE).absolute())
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            storage = JournalStorage(JournalFileBackend(file, lock_obj=_Lock(file)))
            pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
            if search.prune_after is not None:
                pruner = optuna.pruners.MedianPruner(n_warmup_steps=search.prune_after)
            self.study = optuna.create_study(
                storage=storage,
                study_name=_NAME,
                direction="maximize" if search.maximizes else "minimize",
                load_if_exists=True,
                pruner=pruner,
            )

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within the block, no other process chooses or summarises trials of this search."""
        with one_at_a_time(self.search.folder / ".lock"):
            yield

    def claim(self) -> Claim | None:
        """The next trial to train: an interrupted one, else a new one; None if there are as many as there shall be."""
        with self.turn():
            trials = self.study.get_trials(deepcopy=False)
            for frozen in trials:
                run = self._run(frozen.number)
                if frozen.state is TrialState.RUNNING and _lock(run):
                    return self._take(Trial(self.study, frozen._trial_id), run)
            if len(trials) >= self.search.trials:
                return None
            trial = self.study.ask()
            run = self._run(trial.number)
            while not _lock(run):
                pass  # in our turn nobody else takes it; another process is just looking at its state
            return self._take(trial, run)

    def _take(self, trial: Trial, run: Run) -> Claim:
        """The trial whose run this process has locked; what it has drawn before, if it is continued, stays."""
        if run.state() not in _ENDED:
            run.write_results(status="running")
        # A function of the trial's number: neither does a continued search draw again what it has drawn before, nor do
        # two processes draw the same.
        seed = seed_of("search", self.search.seed, trial.number) % 2**32
        if self.search.sampler == "random":
            self.study.sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        return Claim(trial, run, {entry.key: entry.text(_suggest(trial, entry)) for entry in self.search.entries})

    def report(self, claim: Claim, epochs: int, value: float) -> None:
        """Note the metric of a trial after so many epochs."""
        if epochs not in self._frozen(claim).intermediate_values:  # a continued trial comes to some of them again
            claim.trial.report(value, epochs)

    def is_hopeless(self, claim: Claim) -> bool:
        """Whether the trial does worse than the median of the others did after as many epochs."""
        return bool(claim.trial.should_prune())

    def settle(self, claim: Claim) -> Row:
        """Tell Optuna how the trial's run ended; its folder must still be locked."""
        with self.turn():
            status, error = claim.run.state(), claim.run.results().get("error")
            value = self._best(self._frozen(claim))
            if status == "finished" and value is None:
                status, error = "failed", f"ended before {self.search.metric} was measured"
                claim.run.write_results(status=status, error=error)
            claim.trial.set_user_attr("status", status)
            if error:
                claim.trial.set_user_attr("error", error)
            if status == "finished":
                self.study.tell(claim.trial, value)
            else:
                # Also one that failed: Optuna's samplers forget a trial told as failed, and would come back to what
                # made it diverge. Told as stopped, it counts as the worst there is.
                self.study.tell(claim.trial, state=TrialState.PRUNED)
            return self._row(self._frozen(claim))

    def rows(self) -> list[Row]:
        """All trials, in the order of their numbers."""
        return [self._row(frozen) for frozen in self.study.get_trials(deepcopy=False)]

    def best(self) -> Row | None:
        """The finished trial with the best result, the first of equals."""
        best: Row | None = None
        for row in self.rows():
            if row.status == "finished" and self.search.is_better(row.value, best and best.value):
                best = row
        return best

    def importances(self) -> dict[str, float]:
        """The share of each searched setting in the results' differences, largest first; empty if there are too few.

        Source: S. Watanabe, A. Bansal and F. Hutter, "PED-ANOVA", IJCAI 2023.
        """
        finished = [t for t in self.study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
        if len({t.value for t in finished}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            shares = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        except (ValueError, RuntimeError):  # settings with a single value, or all results alike
            return {}
        return {name: share for name, share in shares.items() if math.isfinite(share)}

    def _run(self, number: int) -> Run:
        return Run(self.search.folder / trial_name(number))

    def _frozen(self, claim: Claim) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[claim.trial.number]

    def _best(self, frozen: FrozenTrial) -> float | None:
        values = frozen.intermediate_values.values()
        return None if not values else max(values) if self.search.maximizes else min(values)

    def _row(self, frozen: FrozenTrial) -> Row:
        run = self._run(frozen.number)
        results = run.results()
        return Row(
            frozen.number,
            trial_name(frozen.number),
            {e.key: e.text(frozen.params[e.name]) for e in self.search.entries if e.name in frozen.params},
            frozen.user_attrs.get("status") or run.state(),
            self._best(frozen),
            len(frozen.intermediate_values),
            frozen.user_attrs.get("error"),
            results.get("seconds"),
        )


class _Lock(JournalFileOpenLock):
    """Keeps processes from writing into the journal at once; unlike Optuna's own, it is freed when one is killed."""

    def acquire(self) -> bool:
        self._file = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self._file)


def _lock(run: Run) -> bool:
    """Whether the run's folder, made if need be, is ours now."""
    for folder in (run.last.parent, run.figures):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        run.lock()
    except InUse:
        return False
    return True


def _suggest(trial: Trial, entry: Entry) -> str | float:
    if entry.kind == "categorical":
        return trial.suggest_categorical(entry.name, entry.choices)
    if entry.kind == "int":
        return trial.suggest_int(entry.name, int(entry.low), int(entry.high), log=entry.log, step=entry.step)
    return trial.suggest_float(entry.name, entry.low, entry.high, log=entry.log)


def _distribution(entry: Entry) -> BaseDistribution:
    if entry.kind == "categorical":
        return CategoricalDistribution(entry.choices)
    if entry.kind == "int":
        return IntDistribution(int(entry.low), int(entry.high), log=entry.log, step=entry.step)
    return FloatDistribution(entry.low, entry.high, log=entry.log)


def trial_name(number: int) -> str:
    """The folder of a trial in its search's."""
    return f"trial-{number:04d}"


def _check_journal(search: Search) -> None:
    """Refuse a journal that Optuna could not go on with.

    Raises:
        UsageError: it is damaged, gone while its trials are there, or of other settings than the search's.
    """
    folder, file = search.folder, search.folder / _FILE
    advice = "nothing was changed; mend it, or take another search.name"
    there = sorted(path.name for path in folder.glob("trial-*"))  # first: another process may be adding some
    if not file.exists():
        if there:
            raise UsageError(f"{file}: is gone, but {there[0]} is there; {advice}")
        return
    for number, line in enumerate(_lines(file), start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or not line.endswith(b"\n"):
            raise UsageError(f"{file}: is damaged: line {number} is {_described(line)}; {advice}")
    try:
        storage = JournalStorage(JournalFileBackend(str(file)))  # only reads
        studies = {study.study_name: study._study_id for study in storage.get_all_studies()}
        trials = [trial for number in studies.values() for trial in storage.get_all_trials(number)]
    except Exception as error:  # Optuna's reader raises many kinds for what it cannot follow
        detail = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{file}: is damaged: it cannot be followed ({detail}); {advice}") from error
    if list(studies) not in ([], [_NAME]):
        raise UsageError(f"{file}: is the journal of something else ({', '.join(studies)}); {advice}")
    lost = set(there) - {trial_name(trial.number) for trial in trials}
    if lost:
        raise UsageError(f"{file}: is damaged: it does not know {min(lost)}, which is there; {advice}")
    known = {entry.name: _distribution(entry) for entry in search.entries}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            if distribution != known.get(name) or not distribution._contains(
                distribution.to_internal_repr(trial.params[name])
            ):
                raise UsageError(f"{file}: {trial_name(trial.number)} has a {name} that is not searched; {advice}")


def _lines(file: Path) -> list[bytes]:
    """The journal's lines; another process that is just writing its last gets a moment to end it."""
    for _ in range(20):
        lines = file.read_bytes().splitlines(keepends=True)
        if not lines or lines[-1].endswith(b"\n"):
            break
        time.sleep(0.05)
    return lines


def _described(line: bytes) -> str:
    return "cut off" if not line.endswith(b"\n") else f"no record ({line[:40].decode(errors='replace').strip()!r})"
