"""The best settings of a search as an experiment: a YAML that `python train.py experiment=<name>` composes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import yaml

from deblur.cli import CONFIGS, settings_of
from deblur.search.plan import Search
from deblur.search.space import shown_value
from deblur.search.study import Row
from deblur.training.run import write_atomically

log = logging.getLogger(__name__)

# What says where a run lies or what else it does, not how it trains.
_LEFT_OUT = ("output_root", "sweep", "resume")


def write_experiment(search: Search, best: Row) -> None:
    """Write `best.yaml` into the search's folder, unless it has these settings already."""
    file = search.folder / "best.yaml"
    if not file.is_file() or _heading(search, best) not in file.read_text():
        write_atomically(file, experiment_text(search, best))


def publish_experiment(search: Search) -> None:
    """Copy `best.yaml` to where `experiment=<name>` finds it; the search has checked that the place is its own."""
    file = search.experiment_file
    if file is not None:
        best = search.folder / "best.yaml"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, best.read_text())
        except OSError as error:
            log.warning("%s: cannot be written (%s); the experiment is %s", file, error.strerror or error, best)


def experiment_text(search: Search, best: Row) -> str:
    """The experiment of a trial: the options and values in which it differs from what train.py does by itself."""
    overrides = [*search.command(best.values), f"checkpoint.monitor={search.metric}"]
    settings, chosen = settings_of("train", overrides)
    _, usual = settings_of("train", [])
    groups = {
        group: option
        for group, option in chosen.items()
        if option != usual.get(group) and group != "experiment" and (CONFIGS / group).is_dir()
    }
    plain, _ = settings_of("train", [f"{group}={option}" for group, option in groups.items()])
    content: dict[str, Any] = {}
    if groups:
        content["defaults"] = [{f"override /{group}": option} for group, option in groups.items()]
    content |= {key: value for key, value in _differing(settings, plain).items() if key not in _LEFT_OUT}
    return _heading(search, best) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _heading(search: Search, best: Row) -> str:
    return f"# @package _global_\n{search.mark}\n# {best.name}: {search.metric} {shown_value(repr(best.value))}.\n"


def _differing(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What of the one the other has not, or has otherwise."""
    found: dict[str, Any] = {}
    for key, value in mine.items():
        if isinstance(value, Mapping) and isinstance(theirs.get(key), Mapping):
            inner = _differing(value, theirs[key])
            if inner:
                found[key] = inner
        elif key not in theirs or value != theirs[key]:
            found[key] = value
    return found
