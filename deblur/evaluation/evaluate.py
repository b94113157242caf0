"""The evaluation of trained networks, from settings to tables and figures."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.progress import Progress
from torch import Tensor

from deblur.build import EVERYTHING, build, trusting
from deblur.cli import CONFIGS, as_override, compose, explain, make_console, plain
from deblur.data.module import DeblurDataModule, downloading_only_to
from deblur.data.pairs import EvaluationPairs
from deblur.data.photographs import decoding_once
from deblur.errors import ArgumentError, UsageError, check_choice, check_flag, check_integer, check_path, shown
from deblur.evaluation import baselines as classical
from deblur.evaluation.contenders import (
    Contender,
    common_settings,
    open_contenders,
    try_network,
    typed_root,
    with_estimator,
)
from deblur.evaluation.evaluation import Evaluation
from deblur.evaluation.measure import Values, measure_methods
from deblur.evaluation.protocols import Condition, Draws, Protocol
from deblur.evaluation.registry import METRICS, choose
from deblur.evaluation.report import show_report, write_report, write_values
from deblur.evaluation.results import results_of
from deblur.folders import try_folder, writing_to
from deblur.training.record import is_want_of_memory
from deblur.training.restorer import choose_device
from deblur.training.run import Run, folder_name, run_of
from deblur.training.settings import check_keys, section

log = logging.getLogger(__name__)

_KEYS = (
    "run",
    "protocol",
    "blur",
    "data",
    "output",
    "per_image",
    "images",
    "metrics",
    "estimator",
    "baselines",
    "baseline_images",
    "batch_size",
    "accelerator",
    "allow",
)
_BASELINES = {"wiener": classical.Wiener, "richardson_lucy": classical.RichardsonLucy}
_BASELINES["total_variation"] = classical.TotalVariation


def evaluate(settings: Mapping[str, Any], typed: Sequence[str]) -> int:
    """Evaluate one or more runs; prints tables, writes them and figures; returns 0.

    Args:
        settings: composed from `configs/evaluate.yaml`, plain containers.
        typed: the overrides, as Hydra keeps them.

    Raises:
        UsageError: a setting is refused, a run cannot be used; nothing was written. Or what was found cannot be.
    """
    contenders, device = _opened(settings)
    folder, name = _folder(settings, contenders), _file_name(settings, typed)
    try_folder(folder)
    evaluation = _evaluated(settings, typed, contenders, device)
    console = make_console()
    show_report(console, evaluation.results)
    drawn = []
    with writing_to(folder):
        write_report(folder, name, evaluation.results)
        for kind, figure in evaluation.figures().items():
            drawn.append(f"{name}.png" if kind == "against" else f"{name}_{kind}.png")
            figure.savefig(folder / drawn[-1])
        if settings["per_image"]:
            drawn.append(f"{name}_values.csv")
            write_values(folder / drawn[-1], evaluation.results, evaluation.found)
    beside = f", beside them {', '.join(drawn)}" if drawn else ""
    console.print(f"results: {folder / name}.md, .csv, .json{beside}", highlight=False, soft_wrap=True)
    return 0


def evaluate_runs(run: str | Path, *typed: str) -> Evaluation:
    """What `python evaluate.py run=<run> ...` finds, for Python; nothing is written.

    Args:
        run: as on the command line: a run, or several separated by commas.
        *typed: settings, as on the command line.

    Raises:
        UsageError: a setting is refused, a run cannot be used.

    Example:
        evaluation = evaluate_runs("outputs/unet/2026-11-23_18-30-12", "protocol=lengths", "images=1000")
        evaluation.results["conditions"]
    """
    arguments = [as_override(argument, "evaluate") for argument in (f"run={run}", *typed)]
    try:
        settings = plain(compose("evaluate", arguments))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error, "evaluate", arguments)) from error
    return _evaluated(settings, arguments, *_opened(settings))


def _opened(settings: Mapping[str, Any]) -> tuple[list[Contender], torch.device]:
    _check(settings)
    device = choose_device(settings["accelerator"])
    return open_contenders(str(settings["run"]), settings["allow"], device), device


def _evaluated(
    settings: Mapping[str, Any], typed: Sequence[str], contenders: list[Contender], device: torch.device
) -> Evaluation:
    with trusting(EVERYTHING):
        protocol: Protocol = build(settings["protocol"], "protocol")
    _refuse_decided(typed, protocol)
    blurs, data = common_settings(contenders, settings, protocol)
    conditions = protocol.conditions(blurs, _option)
    kinds = _baselines(settings["baselines"])
    trusted = {key: _trusted(settings, key) for key in ("blur", "data")}
    with downloading_only_to(typed_root(settings)), decoding_once():
        modules = [_data_module(data, condition, trusted) for condition in conditions]
        _check_baselines(settings["baselines"] if kinds else None, modules)
        pairs = _pairs(protocol, modules, conditions, settings["images"])
    first = modules[0]
    wanted = settings["metrics"] or protocol.metrics
    labels, without_labels = _labels(first, wanted)
    if settings["estimator"] is not None:
        contenders = with_estimator(contenders, settings["estimator"], first.image_shape, settings["allow"], device)
    with section(""):
        names = None if wanted is None else [*protocol.required, *wanted]
        psfs = first.knows_psf and any(contender.network.estimates_psf for contender in contenders)
        metrics = choose(names, first.image_shape, labelled=labels is not None, psfs=psfs)
    for contender in contenders:
        try_network(contender, first, device)
    for metric in metrics:
        if metric.prepare is not None:
            metric.prepare(device)
    if without_labels and wanted is None:
        log.warning("legibility is left out: %s", without_labels)

    networks = {contender.name: contender.network for contender in contenders}
    found: list[dict[str, Values]] = []
    chosen: list[dict[str, classical.Choice]] = []
    with _progress(conditions, pairs, len(networks), kinds, settings["baseline_images"]) as advance:
        for module, these in zip(modules, pairs, strict=True):
            chosen.append(_choose(kinds, module, settings["baseline_images"], advance))
            try:
                measured = measure_methods(
                    these,
                    networks,
                    _methods(chosen[-1], module),
                    metrics,
                    labels,
                    batch_size=settings["batch_size"],
                    device=device,
                    advance=advance,
                )
            except (RuntimeError, MemoryError) as error:
                if not is_want_of_memory(error):
                    raise
                size = settings["batch_size"]
                raise UsageError(f"batch_size={size}: must be smaller: out of memory ({shown(error)})") from error
            found.append(measured)
            module.forget_pairs()
            if these is not pairs[0] and isinstance(these, EvaluationPairs):  # the first are shown in the figures
                these.forget()
    results = results_of(protocol, conditions, found, chosen, metrics, contenders, first, len(pairs[0]))
    runs = ",".join(dict.fromkeys(_shown_run(contender.run) for contender in contenders))
    results["command"] = " ".join(["python evaluate.py", f"run={runs}", *_estimator(settings), *_others(typed)])
    return Evaluation(results, contenders, pairs[0], found, _methods(chosen[0], first), device)


def _refuse_decided(typed: Sequence[str], protocol: Protocol) -> None:
    """Refuses keys of the blur that the protocol decides itself: to ignore them would be to measure something else."""
    for override in typed:
        part, *keys = re.split(r"[./]", override.lstrip("+~").partition("=")[0])
        if part == "blur" and not protocol.takes(keys[0] if keys else "_target_"):
            decides = f"protocol={type(protocol).__name__.lower()} decides this itself"
            raise UsageError(f"{override.lstrip('+')}: {decides}")


def _check(settings: Mapping[str, Any]) -> None:
    check_keys(settings, _KEYS)
    with section(""):
        if settings["images"] is not None:
            check_integer("images", settings["images"], low=1)
        check_integer("baseline_images", settings["baseline_images"], low=1)
        check_integer("batch_size", settings["batch_size"], low=1)
        check_flag("per_image", settings["per_image"])
        for key in ("metrics", "allow"):
            names = settings[key]
            if key == "metrics" and names is None:
                continue
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ArgumentError(key, names, "a list of names")
        for metric in settings["metrics"] or []:
            check_choice("metrics", metric, METRICS)


def _option(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / "blur" / f"{name}.yaml").read_text())


def _trusted(settings: Mapping[str, Any], key: str) -> list[str]:
    """The packages whose classes the config of blur or data may name: all if it was typed, and not the run's own."""
    return [EVERYTHING] if "_target_" in (settings.get(key) or {}) else settings["allow"]


def _labels(data: DeblurDataModule, wanted: Sequence[str] | None) -> tuple[Tensor | None, str | None]:
    """The digits that the test images show, or None and why they cannot be had; None and None for other images.

    Raises:
        UsageError: they cannot be had, and legibility is wanted by name.
    """
    try:
        return data.labels("test"), None
    except UsageError as error:
        if "legibility" in (wanted or ()):
            raise
        return None, str(error)


def _data_module(
    data: Mapping[str, Any], condition: Condition, trusted: Mapping[str, Sequence[str]]
) -> DeblurDataModule:
    with trusting(*trusted["blur"]):
        blur = build(condition.blur, "blur")
    with trusting(*trusted["data"]):
        module = build(data, "data", blur=blur)
    with section("data"):
        shape = module.image_shape
    with section("blur"):
        blur.draw(1, shape[1:], torch.Generator().manual_seed(0))
    return module


def _pairs(
    protocol: Protocol, modules: Sequence[DeblurDataModule], conditions: Sequence[Condition], count: int | None
) -> list[EvaluationPairs | Draws]:
    """The pairs of each condition; those whose sharp images are the same hold them together."""
    for number, module in enumerate(modules):
        for other in modules[:number]:
            module.share_images(other)
    return [protocol.pairs(*each, count) for each in zip(modules, conditions, strict=True)]


def _baselines(asked: Any) -> list[type[classical.Baseline]]:
    if asked is None:
        return []
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, list):
        raise UsageError(f"baselines={shown(asked)}: must be a list of {', '.join(_BASELINES)}, or all")
    with section(""):
        found = [check_choice("baselines", name, [*_BASELINES, "all"]) for name in names]
    return list(classical.BASELINES) if "all" in found else [_BASELINES[name] for name in dict.fromkeys(found)]


def _check_baselines(asked: Any, modules: Sequence[DeblurDataModule]) -> None:
    """Refuses baselines where no PSF says all of the blur, and warns where it is not one of the stored values.

    Raises:
        UsageError: nobody knows the PSF, or the blur is not the same everywhere in an image.
    """
    if asked is None:
        return
    for module in modules:
        if not module.knows_psf:
            raise UsageError(f"baselines={shown(asked)}: need the true PSF, and nobody knows that of real pairs")
        if not module.blur.one_psf:
            raise UsageError(
                f"baselines={shown(asked)}: they are given one PSF for an image, and "
                f"{type(module.blur).__name__} blurs each place of an image differently"
            )
    if any(module.blur.camera is not None for module in modules):
        log.warning("the baselines deconvolve stored values, but with a camera the PSF blurs linear light")


def _folder(settings: Mapping[str, Any], contenders: Sequence[Contender]) -> Path:
    if settings["output"] is None:
        return contenders[0].run.path / "evaluation" if len(contenders) == 1 else Path("outputs/evaluation")
    with section(""):
        return check_path("output", settings["output"], "a folder")


def _file_name(settings: Mapping[str, Any], typed: Sequence[str]) -> str:
    """The protocol's name, and what was evaluated on if it is not the run's own."""
    name = settings["protocol"]["_target_"].rpartition(".")[2].lower()
    other = [
        o.lstrip("+") for o in _others(typed) if o.lstrip("+").startswith(("blur", "data", "protocol.", "images="))
    ]
    other = [o for o in other if not o.startswith("data.root")]
    return folder_name("_".join([name, *_estimator(settings), *other]))


def _others(typed: Sequence[str]) -> list[str]:
    dropped = ("run", "output", "per_image", "data.root", "accelerator", "batch_size", "allow", "estimator")
    return [o.lstrip("+") for o in typed if o.lstrip("+").partition("=")[0] not in dropped]


def _estimator(settings: Mapping[str, Any]) -> list[str]:
    """The setting of the run that estimates PSFs, as it is shown, if there is one."""
    path = settings["estimator"]
    if path is None:
        return []
    with section(""):
        check_path("estimator", path, "a run")
    return [f"estimator={_shown_run(run_of(path, 'estimator'))}"]


def _shown_run(run: Run) -> str:
    return str(run.path if not run.path.is_absolute() else run.path.name)


@contextmanager
def _progress(
    conditions: Sequence[Condition],
    pairs: Sequence[Any],
    networks: int,
    kinds: Sequence[type[classical.Baseline]],
    validation: int,
) -> Iterator[Callable[[int], object]]:
    """Within the block, a bar over all images of all methods on a terminal."""
    total = sum(len(these) * (networks + len(kinds)) for these in pairs) + len(conditions) * len(kinds) * validation
    console = make_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("evaluating", total=total)
        yield lambda count: bar.advance(task, count)


def _choose(
    kinds: Sequence[type[classical.Baseline]], data: DeblurDataModule, count: int, advance: Callable[[int], object]
) -> dict[str, classical.Choice]:
    """Each baseline with the parameter that is best on validation images."""
    if not kinds:
        return {}
    validation = data.evaluation_pairs("val")[:count]
    return {kind.name: classical.choose(kind, validation, data.padding, advance) for kind in kinds}


def _methods(
    chosen: Mapping[str, classical.Choice], data: DeblurDataModule
) -> dict[str, tuple[classical.Baseline, str]]:
    return {name: (choice.baseline, data.padding) for name, choice in chosen.items()}
