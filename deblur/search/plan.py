"""What a search is: its command, its space and its folder, all checked before the first trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from deblur.build import EVERYTHING, trusting
from deblur.cli import CONFIGS, explain, settings_of
from deblur.errors import (
    ArgumentError,
    UsageError,
    check_choice,
    check_integer,
    check_path,
    shown,
)
from deblur.metric_names import is_better, metric_mode
from deblur.search.space import Entry, read_space
from deblur.stored import dump_yaml, read_yaml
from deblur.training.run import folder_name, refuse_links, write_atomically
from deblur.training.settings import check_keys, differences, section
from deblur.training.train import make_plan, refuse_processes

METRICS = tuple(f"val/{name}" for name in ("psnr", "ssim", "mse", "psnr_gain"))
SAMPLERS = ("tpe", "random")
_KEYS = ("name", "trials", "metric", "sampler", "prune_after", "experiment", "space")
_FILE = "search.yaml"
# What a trial cannot have of its own: where it lies, and what belongs to another command.
_NOT_SEARCHED = ("resume", "output_root", "sweep", "search", "allow", "hydra", "checkpoint.monitor")


@dataclass(frozen=True)
class Search:
    """A search, as its command describes it.

    Attributes:
        folder: where all of it lies.
        overrides: the settings of every trial, as typed.
        entries: what is searched.
        given: settings of the space that are not searched, as the command gives them a value.
        trials: how many there shall be in all, whatever the number of processes.
        metric: the validation metric, one of `METRICS`, whose best value is a trial's result.
        sampler: one of `SAMPLERS`.
        prune_after: epochs that a trial may train before it is compared with others; None: no trial is stopped.
        experiment: name of the file in `configs/experiment` for the best settings; None for no file.
        seed: of the sampler, as of each trial's training.
    """

    folder: Path
    overrides: list[str]
    entries: list[Entry]
    given: list[str]
    trials: int
    metric: str
    sampler: str
    prune_after: int | None
    experiment: str | None
    seed: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], typed: Sequence[str]) -> Search:
        """The search of a command.

        Args:
            settings: composed from `configs/tune.yaml`, resolved.
            typed: the command's overrides; a searched setting that is among them keeps the value typed.

        Raises:
            UsageError: a setting is refused.
        """
        own = settings["search"]
        check_keys(own, _KEYS, "search.")
        with section("search"):
            name = _check_name("name", own["name"])
            trials = check_integer("trials", own["trials"], low=1)
            metric = check_choice("metric", own["metric"], METRICS)
            sampler = check_choice("sampler", own["sampler"], SAMPLERS)
            prune_after = own["prune_after"]
            if prune_after is not None:
                check_integer("prune_after", prune_after, low=1)
            experiment = None if own["experiment"] is None else _check_name("experiment", own["experiment"])
        with section(""):
            root = check_path("output_root", settings["output_root"], "a folder")
            seed = check_integer("seed", settings["seed"], low=0)
        overrides = [override for override in typed if _key(override).split(".")[0] != "search"]
        for override in overrides:
            if _key(override) == "resume":
                raise UsageError(f"{override}: a search is continued by its own command, a trial by train.py")
            if _key(override).startswith("sweep"):
                raise UsageError(f"{override}: is for sweeps (train.py -m); a search has search.name")
            if override.startswith("~"):
                raise UsageError(f"{override}: a search cannot leave a setting out; give it a value")
        entries = read_space(own["space"])
        typed_keys = {_key(override) for override in overrides}
        given = [entry.name for entry in entries if entry.name in typed_keys]
        searched = [entry for entry in entries if entry.name not in given]
        if not searched:
            raise UsageError(f"search.space: the command gives {', '.join(given)} a value: nothing is left to search")
        for entry in searched:
            if any(f"{entry.name}.".startswith(f"{name}.") for name in _NOT_SEARCHED):
                raise UsageError(f"search.space.{entry.key}: is the search's own to decide")
        folder = root / "searches" / name
        return cls(folder, overrides, searched, given, trials, metric, sampler, prune_after, experiment, seed)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def maximizes(self) -> bool:
        return metric_mode(self.metric) == "max"

    def is_better(self, value: float, other: float | None) -> bool:
        """Whether one result beats another."""
        return other is None or is_better(self.metric, value, other)

    def command(self, values: Mapping[str, str]) -> list[str]:
        """The overrides of a trial with these values of searched settings, as one would type them for train.py."""
        return [*self.overrides, *(f"{key}={value}" for key, value in values.items())]

    def settings(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The settings of a trial with these values of searched settings, resolved.

        Raises:
            UsageError: they do not compose.
        """
        overrides = self.command(values)
        try:
            settings, _ = settings_of("train", [*overrides, f"checkpoint.monitor={self.metric}"])
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(explain(error, "train", overrides)) from error
        if settings["trainer"].get("devices") == "auto":
            settings["trainer"]["devices"] = 1
        return settings

    def check(self) -> None:
        """Refuse what no trial could train with; reads (or downloads) the data, writes nothing else.

        Each end of each range and each choice is tried by itself. What is wrong only together with other values
        fails its own trial.

        Raises:
            UsageError: a value is refused, or would be in every trial.
        """
        self._try({})
        for entry in self.entries:
            for value in entry.ends:
                errors = []
                for others in self._contexts(entry):
                    try:
                        self._try({**others, entry.key: value})
                        break
                    except UsageError as error:
                        errors.append(error)
                else:
                    raise UsageError(f"search.space.{entry.key}: {errors[0]}") from errors[0]
        file = self.experiment_file
        if file is not None and file.exists() and self.mark not in _text_of(file):
            raise UsageError(
                f"search.experiment={self.experiment}: {file} was not made by this search; "
                "take another search.name or search.experiment, or search.experiment=null for no such file"
            )

    @property
    def experiment_file(self) -> Path | None:
        return None if self.experiment is None else CONFIGS / "experiment" / f"{self.experiment}.yaml"

    @property
    def mark(self) -> str:
        """The line by which a file of best settings is known as this search's own."""
        return f"# Made by tune.py, which writes it anew: the best settings of the search {self.name}."

    def _contexts(self, entry: Entry) -> Iterator[dict[str, str]]:
        """Choices under which a searched setting may exist: the command's, then each option of searched groups."""
        yield {}
        for other in self.entries:
            if other is not entry and (CONFIGS / other.name).is_dir():
                for choice in other.choices:
                    yield {other.key: choice}

    def _try(self, values: Mapping[str, str]) -> None:
        settings = self.settings(values)
        refuse_processes(settings, "a trial of a search")
        with trusting(EVERYTHING):
            make_plan(settings)
        trainer = settings["trainer"]
        if trainer.get("limit_val_batches") in (0, 0.0):
            raise UsageError("trainer.limit_val_batches=0: a search needs validation; must be at least 1, or null")
        every = trainer.get("check_val_every_n_epoch") or 1
        if every > trainer["max_epochs"]:
            raise UsageError(
                f"trainer.check_val_every_n_epoch={every}: a search needs validation; must be at most "
                f"trainer.max_epochs, which is {trainer['max_epochs']}"
            )

    def save(self) -> None:
        """Write `search.yaml`, by which the folder is known as this search's."""
        write_atomically(self.folder / _FILE, dump_yaml(self._description()))

    def check_folder(self) -> bool:
        """Whether the folder holds this search already; False if there is nothing yet.

        Raises:
            UsageError: it holds another search, or something else.
        """
        file = self.folder / _FILE
        if not file.exists():
            if self.folder.is_dir() and any(child.name != ".lock" for child in self.folder.iterdir()):
                raise UsageError(f"search.name={self.name}: {self.folder} is no search; take another search.name")
            return False
        try:
            there = read_yaml(file)
            gone, new = _differ(there, self._description())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{file}: is damaged: {' '.join(str(error).split())}") from error
        if gone or new:
            raise UsageError(
                f"search.name={self.name}: {self.folder} holds another search; there: {' '.join(gone) or 'less'}; "
                f"here: {' '.join(new) or 'less'}; take another search.name"
            )
        refuse_links(self.folder)
        return True

    def _description(self) -> dict[str, Any]:
        return {
            "command": self.overrides,
            "metric": self.metric,
            "sampler": self.sampler,
            "prune_after": self.prune_after,
            "space": {entry.key: entry.plain() for entry in self.entries},
            "settings": self.settings({}),
        }


def _differ(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What two searches have otherwise, as typed: of the one, of the other."""
    names = ("metric", "sampler", "prune_after")
    flat = []
    for one in (there, here):
        entries = {f"search.space.{key}": str(entry) for key, entry in one["space"].items()}
        flat.append({f"search.{name}": one[name] for name in names} | entries)
    gone, new = (
        [f"{key}={shown(value)}" for key, value in mine.items() if other.get(key) != value]
        for mine, other in (flat, reversed(flat))
    )
    epochs = [one["settings"]["trainer"]["max_epochs"] for one in (there, here)]  # may differ on resuming, not here
    if epochs[0] != epochs[1]:
        gone.append(f"trainer.max_epochs={epochs[0]}")
        new.append(f"trainer.max_epochs={epochs[1]}")
    mine, theirs = (movable(one["settings"]) for one in (there, here))
    return gone + differences(mine, theirs), new + differences(theirs, mine)


def movable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the data's place: another machine may have it elsewhere."""
    return {**settings, "data": {key: value for key, value in settings["data"].items() if key != "root"}}


def _check_name(key: str, value: Any) -> str:
    text = shown(value)
    if value is None or isinstance(value, list | Mapping) or folder_name(text) != text:
        raise ArgumentError(key, value, "a name of letters, digits and . _ = -")
    return text


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
