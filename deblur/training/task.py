"""What a task's settings leave to the run: the size of the PSFs, and the network that estimates them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deblur.blur import Blur, Motion
from deblur.blur.psf import crop_psf
from deblur.build import find_class, only_trusting
from deblur.data.module import DeblurDataModule
from deblur.errors import UsageError, check_integer, check_path, shown
from deblur.metric_names import PSF_CORRELATION
from deblur.models.estimates import estimates_psf, restore, takes_psf
from deblur.tasks.nonblind import EstimatingNetwork
from deblur.training.module import DeblurModule
from deblur.training.restorer import load
from deblur.training.run import trained_checkpoint
from deblur.training.settings import section
from deblur.training.weights import read_weights

BLIND = {"_target_": "deblur.tasks.Blind"}
_DRAWN, _ENOUGH = 64, 0.99  # PSFs that are tried, and how much of them a network's should hold

log = logging.getLogger(__name__)


class Estimator(NamedTuple):
    """A network that estimates PSFs, and the configs of its model and task."""

    network: nn.Module
    configs: dict[str, Any]


def complete_task(
    task: Mapping[str, Any] | None, model: Mapping[str, Any], blur: Blur, data: DeblurDataModule, allow: Sequence[str]
) -> dict[str, Any] | None:
    """The task's settings with what they leave open: the side of the blur's PSFs, what the estimator is made from.

    Args:
        task: as typed.
        model: the config of the run's model; one that finds PSFs itself has settings of its own for them.
        blur, data: of the run.
        allow: packages, beside deblur and torch, whose classes the estimator's run may name.

    Raises:
        UsageError: the estimator cannot be had, or estimates no PSFs of such images.
    """
    if task is None:
        return None
    task = dict(task)
    if "psf_size" in task and hasattr(find_class(model, "model"), "estimates"):
        if task["psf_size"] is not None:
            raise UsageError(
                f"task.psf_size={shown(task['psf_size'])}: must be null with this model, which finds PSFs itself: "
                "model.psf_size says how large"
            )
        return task
    if "psf_size" in task and task["psf_size"] is None:
        task["psf_size"] = min(psf_size(blur, data), *data.image_shape[1:])
    with section("task"):
        if "psf_size" in task:
            check_integer("psf_size", task["psf_size"], low=1, high=min(data.image_shape[1:]))
    if task.get("psf") == "estimated" and task.get("estimator") is not None and task.get("estimator_network") is None:
        estimator = open_estimator("task.estimator", task["estimator"], data.image_shape, allow)
        task["estimator_network"] = estimator.configs
    return task


def psf_size(blur: Blur, data: DeblurDataModule) -> int:
    """The side of the blur's PSFs for these images, pixels.

    Raises:
        UsageError: it has none.
    """
    with section("data"):
        shape = data.image_shape[1:]
    with section("blur"):
        motion = blur.draw(1, shape, torch.Generator().manual_seed(0))
    return true_psf(motion, data, "task").shape[-1]


def true_psf(motion: Motion, data: DeblurDataModule, key: str, otherwise: str = "") -> Tensor:
    """The PSFs of a motion that the blur of the data has drawn.

    Args:
        motion: of it.
        data: whose pairs they would be those of.
        key: what needs them, for the message.
        otherwise: what does not, to end the message.

    Raises:
        UsageError: they are not those of the pairs.
    """
    if not data.knows_psf:
        raise UsageError(f"{key}: needs the true PSFs, and nobody knows those of real pairs{otherwise}")
    if not data.blur.one_psf:
        blur = type(data.blur).__name__
        raise UsageError(f"{key}: needs one PSF for an image, and {blur} blurs each place of it differently{otherwise}")
    return motion.psf


def check_psfs(module: DeblurModule, data: DeblurDataModule, monitor: str) -> None:
    """Refuses a training that needs PSFs which nobody has; warns where the network's are smaller than the blur's.

    Args:
        module: takes the data's images.
        data: of the run.
        monitor: the metric that chooses the best weights.

    Raises:
        UsageError: the true PSFs are needed and not known, or those of a network that finds none.
    """
    shape = data.image_shape
    motion = data.blur.draw(_DRAWN, shape[1:], torch.Generator().manual_seed(0))
    weight = module.hparams.psf_weight
    if module.takes_psf:
        true_psf(motion, data, "task=nonblind")
    elif weight:
        true_psf(motion, data, f"module.psf_weight={weight}", "; module.psf_weight=0 does without")
    found = None
    if estimates_psf(module.network):
        with torch.no_grad():
            found = restore(module.network.eval(), torch.zeros(1, *shape)).psf
        module.train()
    if found is None:
        said = "this network estimates no PSFs; task=kernel does"
        if weight:
            raise UsageError(f"module.psf_weight={weight}: {said}, module.psf_weight=0 does without")
        if monitor == f"val/{PSF_CORRELATION}":
            raise UsageError(f"checkpoint.monitor={monitor}: {said}")
    elif data.knows_psf and data.blur.one_psf:
        side = found.shape[-1]
        kept = crop_psf(motion.psf, side).sum(dim=(1, 2, 3)).mean().item()
        if kept < _ENOUGH:
            log.warning(
                "the network looks for PSFs of %dx%d pixels, which hold %.0f %% of this blur's light: raise "
                "model.psf_size or task.psf_size, or blur less",
                side,
                side,
                100 * kept,
            )


def open_estimator(key: str, path: Any, image_shape: Sequence[int], allow: Sequence[str]) -> Estimator:
    """The network of a run that estimates the PSFs of blurred images; runs no code that the run names.

    Args:
        key: that the run was typed for.
        path: of the run.
        image_shape: (C, H, W) of the images.
        allow: packages, beside deblur and torch, whose classes the run may name.

    Raises:
        UsageError: there is no such run, or its network estimates no PSFs of such images.
    """
    with section(""):
        check_path(key, path, "a run")
    file = trained_checkpoint(path, key)
    with only_trusting(*allow):
        network = load(file, allow=allow).network
    what = f"{key}={path}: must be a run that estimates PSFs itself (task=kernel, or model=deconvolver|coarse_to_fine)"
    if takes_psf(network) or not estimates_psf(network) or isinstance(network, EstimatingNetwork):
        raise UsageError(what)
    try:
        with torch.no_grad():
            found = restore(network, torch.zeros(1, *image_shape)).psf
    except (RuntimeError, ValueError) as error:
        size = "x".join(map(str, image_shape))
        raise UsageError(f"{key}={path}: its network cannot take images of {size}: {shown(error)}") from error
    if found is None:
        raise UsageError(what)
    settings = read_weights(file).settings
    return Estimator(network, {"model": settings["model"], "task": settings.get("task") or BLIND})


def load_estimator(module: DeblurModule, path: str) -> None:
    """Give the network's estimator the weights of its run.

    Raises:
        UsageError: they cannot be had.
    """
    state = read_weights(trained_checkpoint(path, "task.estimator")).state
    inside = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    try:
        module.network.estimator.load_state_dict(inside)
    except RuntimeError as error:
        raise UsageError(f"task.estimator={path}: its weights do not fit its settings: {shown(error)}") from error
