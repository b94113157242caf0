"""The journal: trials are shared, none is lost, none is done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna")
from optuna.trial import TrialState

from deblur.errors import UsageError
from deblur.search.plan import Search
from deblur.search.report import write_report
from deblur.search.space import Entry
from deblur.search.study import Study

SPACE = [Entry("optimizer.lr", "float", 1e-4, 1e-2, log=True), Entry("loss", "categorical", choices=("l1", "mse"))]


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path / "mine", [], SPACE, [], 6, "val/psnr", "tpe", 1, None, 0)


def end(study: Study, claim, *values: float, status: str = "finished", error: str | None = None):
    """End a trial as a training would that was validated after each epoch."""
    for epoch, value in enumerate(values, start=1):
        study.report(claim, epoch, value)
    claim.run.write_results(status=status, error=error)
    row = study.settle(claim)
    claim.run.unlock()
    return row


def test_two_processes_share_the_trials_and_do_not_exceed_them(search):
    one, other = Study(search), Study(search)
    claims = []
    for study in (one, other, one, other, other, one):
        claims.append((study, study.claim()))
    assert one.claim() is None
    assert other.claim() is None
    assert [claim.trial.number for _, claim in claims] == list(range(6))
    assert len({str(claim.values) for _, claim in claims}) == 6
    assert {row.status for row in one.rows()} == {"running"}
    for number, (study, claim) in enumerate(claims):
        end(study, claim, 10.0 + number)
    assert [row.value for row in one.rows()] == [row.value for row in other.rows()] == [10.0 + n for n in range(6)]
    assert one.best().name == "trial-0005"


def test_a_trial_of_a_dead_process_is_claimed_again_and_a_live_one_is_not(search):
    dead, alive = Study(search), Study(search)
    first, second = dead.claim(), alive.claim()
    dead.report(first, 1, 12.0)
    first.run.unlock()  # as the system does when it ends a process
    assert [row.status for row in alive.rows()] == ["interrupted", "running"]
    again = alive.claim()
    assert again.trial.number == 0
    assert again.values == first.values
    alive.report(again, 1, 99.0)  # the epoch was done before: it counts once
    assert end(alive, again, 12.0, 13.0).value == 13.0
    assert alive.claim().trial.number == 2
    assert second.run.state() == "running"


def test_a_trial_that_has_ended_but_is_not_told_yet_is_left_to_its_process(search):
    one, other = Study(search), Study(search)
    claim = one.claim()
    one.report(claim, 1, 12.0)
    claim.run.write_results(status="finished")
    assert other.claim().trial.number == 1
    assert one.settle(claim).value == 12.0


def test_a_trial_that_ended_without_being_told_is_not_trained_again(search):
    study = Study(search)
    claim = study.claim()
    study.report(claim, 1, 12.0)
    claim.run.write_results(status="finished")
    claim.run.unlock()
    again = Study(search).claim()
    assert again.has_ended
    assert again.trial.number == 0
    row = study.settle(again)
    assert (row.status, row.value) == ("finished", 12.0)


def test_a_continued_search_draws_what_an_uninterrupted_one_draws(search, tmp_path):
    drawn = {}
    for name, processes in (("whole", 1), ("cut", 6)):
        drawn[name] = []
        for process in range(6):
            if process == 0 or processes > 1:
                study = Study(replace(search, folder=tmp_path / name, sampler="tpe"))
            claim = study.claim()
            drawn[name].append(claim.values)
            end(study, claim, 10.0 + float(claim.values["optimizer.lr"]))
    assert drawn["whole"] == drawn["cut"]
    assert len({str(values) for values in drawn["whole"]}) == 6


def test_another_seed_draws_others_and_tpe_comes_back_to_what_was_good(search, tmp_path):
    seeds = [Study(replace(search, folder=tmp_path / str(seed), seed=seed)).claim().values for seed in (0, 1)]
    assert seeds[0] != seeds[1]
    distances = {}
    for sampler in ("tpe", "random"):
        study = Study(replace(search, folder=tmp_path / sampler, sampler=sampler, trials=40))
        while (claim := study.claim()) is not None:
            end(study, claim, -abs(float(claim.values["optimizer.lr"]) - 1e-3))
        values = [-row.value for row in study.rows()][20:]
        distances[sampler] = sum(values) / len(values)
    assert distances["tpe"] < 0.7 * distances["random"]


def test_a_trial_below_the_median_is_hopeless_unless_pruning_is_off(search, tmp_path):
    for prune_after, expected in ((1, True), (2, False), (None, False)):
        study = Study(replace(search, folder=tmp_path / str(prune_after), trials=7, prune_after=prune_after))
        for number in range(5):
            end(study, study.claim(), 10.0 + number, 20.0 + number)
        bad, good = study.claim(), study.claim()
        study.report(bad, 1, 11.0)
        study.report(good, 1, 13.0)
        assert study.is_hopeless(bad) is expected
        assert not study.is_hopeless(good)


def test_stopped_and_failed_trials_are_no_results_but_are_learned_from(search):
    study = Study(replace(search, trials=3))
    end(study, study.claim(), 10.0)
    stopped = end(study, study.claim(), 99.0, status="pruned")
    failed = end(study, study.claim(), status="failed", error="the loss is no longer a number")
    assert (stopped.status, stopped.error) == ("pruned", None)
    assert (failed.status, failed.error, failed.value) == ("failed", "the loss is no longer a number", None)
    assert study.best().number == 0
    states = [trial.state for trial in study.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]


def test_the_smallest_error_is_best(search):
    study = Study(replace(search, metric="val/mse"))
    for value in (0.3, 0.1, 0.2):
        end(study, study.claim(), value, 0.5)
    assert study.best().value == 0.1


def test_the_report_sorts_the_trials_and_draws_them(search, monkeypatch):
    monkeypatch.setattr("deblur.search.report.write_experiment", lambda *_: None)
    study = Study(search)
    write_report(study)  # of nothing
    for value in (1.0, 3.0, 2.0):
        end(study, study.claim(), value)
    end(study, study.claim(), 2.5, status="pruned")
    end(study, study.claim(), status="failed", error="a|b")
    write_report(study)
    lines = (search.folder / "summary.csv").read_text().splitlines()
    assert lines[0] == "trial,optimizer.lr,loss,status,val/psnr,epochs,seconds,error"
    assert [line.split(",")[0][-1] for line in lines[1:]] == ["1", "2", "0", "3", "4"]
    assert "a\\|b" in (search.folder / "summary.md").read_text()
    for name in ("history", "importances"):
        assert (search.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert set(study.importances()) == {"optimizer.lr", "loss"}


def damage_line(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], b"\x00garbage\n", *lines[3:]]))


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def skip_a_record(file: Path) -> None:
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))


def rename_study(file: Path) -> None:
    file.write_text(file.read_text().replace('"study_name":"search"', '"study_name":"other"'))


def change_choice(file: Path) -> None:
    file.write_text(file.read_text().replace("mse", "os.system"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_line, "line 3"),
        (cut_off, "cut off"),
        (skip_a_record, "does not know trial-0000"),
        (rename_study, "something else (other)"),
        (change_choice, "loss that is not searched"),
        (Path.unlink, "is gone"),
    ],
)
def test_a_damaged_journal_is_refused_and_left_as_it_is(search, damage, said):
    study = Study(search)
    end(study, study.claim(), 1.0)
    file = search.folder / "journal.log"
    damage(file)
    before = {path: path.stat().st_mtime_ns for path in search.folder.rglob("*")}
    with pytest.raises(UsageError) as refused:
        Study(search)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)
    assert before == {path: path.stat().st_mtime_ns for path in search.folder.rglob("*")}
