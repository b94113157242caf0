"""The evaluation of trained networks, from settings to tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.progress import Progress

from deblur.build import EVERYTHING, build, trusting
from deblur.cli import CONFIGS, make_console
from deblur.data.module import DeblurDataModule
from deblur.errors import ArgumentError, UsageError, check_choice, check_integer, check_path, nearest, shown
from deblur.evaluation import baselines as classical
from deblur.evaluation.contenders import Contender, common_settings, open_contenders, try_network
from deblur.evaluation.figures import draw_evaluation
from deblur.evaluation.measure import Values, measure_methods
from deblur.evaluation.protocols import Condition, Protocol
from deblur.evaluation.registry import METRICS, choose
from deblur.evaluation.report import show_report, write_report
from deblur.evaluation.results import picked_images, results_of
from deblur.training.run import folder_name
from deblur.training.settings import section

_KEYS = (
    "run",
    "protocol",
    "blur",
    "data",
    "output",
    "images",
    "metrics",
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
        UsageError: a setting is refused, a run cannot be used; nothing was written.
    """
    _check(settings)
    with trusting(EVERYTHING):
        protocol: Protocol = build(settings["protocol"], "protocol")
    device = _device(settings["accelerator"])
    contenders = open_contenders(str(settings["run"]), settings["allow"], device)
    blurs, data = common_settings(contenders, settings)
    conditions = protocol.conditions(blurs, _option)
    kinds = _baselines(settings["baselines"])
    modules = [_data_module(data, condition) for condition in conditions]
    first = modules[0]
    pairs = [
        protocol.pairs(module, condition, settings["images"])
        for module, condition in zip(modules, conditions, strict=True)
    ]
    labels = first.labels("test")
    with section(""):
        wanted = settings["metrics"] or (list(protocol.metrics) if protocol.metrics else None)
        metrics = choose(wanted, first.image_shape, labelled=labels is not None)
    for contender in contenders:
        try_network(contender, first, device)
    folder = _folder(settings, contenders)
    name = _file_name(settings, typed)

    networks = {contender.name: contender.network for contender in contenders}
    found: list[dict[str, Values]] = []
    chosen: list[dict[str, classical.Choice]] = []
    with _progress(conditions, pairs, len(networks), kinds, settings["baseline_images"]) as advance:
        for module, these in zip(modules, pairs, strict=True):
            chosen.append(_choose(kinds, module, settings["baseline_images"], advance))
            methods = {kind.name: (chosen[-1][kind.name].baseline, module.blur.padding) for kind in kinds}
            found.append(
                measure_methods(
                    these,
                    networks,
                    methods,
                    metrics,
                    labels,
                    batch_size=settings["batch_size"],
                    device=device,
                    advance=advance,
                )
            )
    results = results_of(protocol, conditions, found, chosen, metrics, contenders, first, len(pairs[0]))
    results["command"] = " ".join(
        ["python evaluate.py", *(f"run={_shown_run(c)}" for c in contenders), *_others(typed)]
    )
    write_report(folder, name, results)
    shown_first = contenders[0]
    picked = picked_images(found[0], shown_first.name)
    draw_evaluation(folder, name, results, pairs[0], picked, shown_first.network, shown_first.name, device)
    console = make_console()
    show_report(console, results)
    console.print(f"results: {folder / name}.md, .csv, .json, and figures beside them", highlight=False, soft_wrap=True)
    return 0


def _check(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if key not in _KEYS:
            raise UsageError(f"{key}={shown(value)}: no such key{nearest(key, _KEYS)}; there are {', '.join(_KEYS)}")
    with section(""):
        if settings["images"] is not None:
            check_integer("images", settings["images"], low=1)
        check_integer("baseline_images", settings["baseline_images"], low=1)
        check_integer("batch_size", settings["batch_size"], low=1)
        check_choice("accelerator", settings["accelerator"], ("auto", "cpu", "gpu", "mps"))
        for key in ("metrics", "allow"):
            names = settings[key]
            if names is not None and (not isinstance(names, list) or not all(isinstance(n, str) for n in names)):
                raise ArgumentError(key, names, "a list of names")
        for metric in settings["metrics"] or []:
            check_choice("metrics", metric, METRICS)


def _device(accelerator: str) -> torch.device:
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(name for name in there if there[name]) if accelerator == "auto" else accelerator
    if not there[name]:
        raise UsageError(f"accelerator={accelerator}: there is none on this machine")
    return torch.device("cuda" if name == "gpu" else name)


def _option(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / "blur" / f"{name}.yaml").read_text())


def _data_module(data: Mapping[str, Any], condition: Condition) -> DeblurDataModule:
    with trusting(EVERYTHING):
        blur = build(condition.blur, "blur")
        module = build(data, "data", blur=blur)
    with section("data"):
        shape = module.image_shape
    with section("blur"):
        blur.draw(1, shape[1:], torch.Generator().manual_seed(0))
    return module


def _baselines(asked: Any) -> list[type[classical.Baseline]]:
    if asked == "all":
        return list(classical.BASELINES)
    if asked is None:
        return []
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, list):
        raise UsageError(f"baselines={shown(asked)}: must be a list of {', '.join(_BASELINES)}, or all")
    with section(""):
        return [_BASELINES[check_choice("baselines", name, [*_BASELINES, "all"])] for name in names]


def _folder(settings: Mapping[str, Any], contenders: Sequence[Contender]) -> Path:
    if settings["output"] is None:
        return contenders[0].run.path / "evaluation" if len(contenders) == 1 else Path("outputs/evaluation")
    with section(""):
        folder = check_path("output", settings["output"], "a folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output={settings['output']}: must be a folder, this is a file")
    return folder


def _file_name(settings: Mapping[str, Any], typed: Sequence[str]) -> str:
    """The protocol's name, and what was evaluated on if it is not the run's own."""
    name = settings["protocol"]["_target_"].rpartition(".")[2].lower()
    other = [
        o.lstrip("+") for o in _others(typed) if o.lstrip("+").startswith(("blur", "data", "protocol.", "images="))
    ]
    return folder_name("_".join([name, *(o for o in other if not o.startswith("data.root"))]))


def _others(typed: Sequence[str]) -> list[str]:
    dropped = ("run", "output", "data.root", "accelerator", "batch_size", "allow")
    return [o.lstrip("+") for o in typed if o.lstrip("+").partition("=")[0] not in dropped]


def _shown_run(contender: Contender) -> str:
    path = contender.run.path
    return str(path if not path.is_absolute() else path.name)


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
    return {kind.name: classical.choose(kind, validation, data.blur.padding, advance) for kind in kinds}
