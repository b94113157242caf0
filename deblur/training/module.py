"""The LightningModule: network, loss, optimiser, schedule."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from deblur.blur.psf import crop_psf
from deblur.build import build, constructor_parameters, find_class
from deblur.data.pairs import Pairs
from deblur.errors import ArgumentError, UsageError, check_flag, check_integer, check_number
from deblur.metrics import RestorationMetrics, psf_correlation
from deblur.models.estimates import Restored, estimates_psf, reduced, restore, takes_psf
from deblur.seeding import seed_of
from deblur.training.guard import Diverged, FiniteGuard, Place
from deblur.training.network import build_network

log = logging.getLogger(__name__)


class DeblurModule(LightningModule):
    """A deblurring network and how it is trained.

    Its hyper-parameters are the plain configs of its parts, so a checkpoint needs nothing else to be opened:
    `DeblurModule.load_from_checkpoint(path)`.

    Args:
        model, loss, optimizer, scheduler: configs, each a mapping with a `_target_` and its arguments. The optimiser's
            lacks the parameters, the scheduler is a function from progress in [0, 1] to the factor of the rate.
        task: config of what the network is given and asked for; None: it sees the blurred image alone.
        seed: of the network's own randomness in training (dropout).
        intermediate_weight: how much the loss of the images counts that the network makes on its way to the last one,
            for models with `estimates`.
        psf_weight: how much the squared error of the network's PSFs counts, summed over pixels, for the same and for
            those with a head for the PSF.
        nan_patience: steps in a row whose loss or gradients are not finite, and which are skipped, that are borne; one
            more stops the training.
        channels_last: keep the network's tensors with the channels innermost; the same results, faster convolutions.
        compile: train with the network compiled by `torch.compile`; the same results to rounding. It needs a C++
            compiler on the CPU, and its first steps take half a minute; later runs find the result in torch's cache.

    Raises:
        UsageError: a config is refused.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        loss: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        task: Mapping[str, Any] | None = None,
        seed: int = 0,
        intermediate_weight: float = 0.0,
        psf_weight: float = 0.0,
        nan_patience: int = 3,
        channels_last: bool = True,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network, inner = build_network(model, task)
        finds, headed = self.network is inner and estimates_psf(inner), getattr(self.network, "trains_psf", False)
        for key, weight, trains in (
            ("intermediate_weight", intermediate_weight, finds),
            ("psf_weight", psf_weight, finds or headed),
        ):
            if check_number(key, weight, low=0.0) and not trains:
                raise ArgumentError(key, weight, f"0: {type(inner).__name__} makes nothing but the last image")
        if headed and not psf_weight:
            raise ArgumentError("psf_weight", psf_weight, "> 0: nothing else trains the head for the PSF")
        self.takes_psf = takes_psf(self.network)
        self.loss = build(loss, "loss")
        self.schedule = build(scheduler, "scheduler")
        if check_flag("channels_last", channels_last):
            self.network.to(memory_format=torch.channels_last)
        self._compiled: Callable[..., Any] | None = None
        check_integer("nan_patience", nan_patience, low=0)
        self.guard = FiniteGuard()
        self._told = 0  # of the steps skipped in a row
        self.metrics = RestorationMetrics(psf=estimates_psf(self.network))
        self.loss_sum = 0.0  # of the epoch so far, and over how many batches: saved, so that a resumed run shows it all
        self.loss_count = 0
        self._configure_optimizer({})  # refuses wrong settings now rather than when training starts

    def forward(self, blurred: Tensor, psf: Tensor | None = None) -> Tensor:
        """The restored images, (B, C, H, W), not clamped; a network that takes PSFs needs them, (B, 1, K, K)."""
        return self.network(*self._given(blurred, psf))

    def _given(self, blurred: Tensor, psf: Tensor | None) -> tuple[Tensor, ...]:
        prepared = self._prepared(blurred)
        return (prepared, psf.to(prepared.device)) if self.takes_psf else (prepared,)

    def _prepared(self, blurred: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(blurred.device.type):
            blurred = blurred.to(next(self.network.parameters()).dtype)  # all of the network is of trainer.precision
        return blurred.contiguous(memory_format=torch.channels_last) if self.hparams.channels_last else blurred

    def on_train_batch_start(self, batch: Pairs, batch_idx: int) -> None:
        if batch_idx == 0:
            self.loss_sum, self.loss_count = 0.0, 0
        # A function of the batch, like the blur: a resumed run need not restore any generator's state.
        torch.manual_seed(seed_of("network", self.hparams.seed, self.global_rank, self.current_epoch, batch_idx))

    def training_step(self, batch: Pairs, batch_idx: int) -> Tensor:
        loss = self._training_loss(batch)
        finite = loss.detach().isfinite()
        self.loss_sum += torch.where(finite, loss.detach(), 0.0)
        self.loss_count += finite
        if self.trainer.world_size == 1:  # else all processes would have to agree; their gradients are the same
            self.guard.see_loss(loss)
        return loss

    def _training_loss(self, batch: Pairs) -> Tensor:
        """The loss of the last image, and what the weights say of what came before it."""
        given = self._given(batch.blurred, self._psf(batch))
        if not self._wants_estimates:
            return self._loss_of(self._trained()(*given), batch)
        estimates = self._trained()(*given)
        *before, last = [self._loss_of(image, batch) for image in estimates.images]
        loss = last + self.hparams.intermediate_weight * sum(before)
        if self.hparams.psf_weight:
            truth = batch.motion.psf
            errors = [psf - crop_psf(truth, psf.shape[-1]) for psf in estimates.psfs]
            loss = loss + self.hparams.psf_weight * sum(error.square().sum((-2, -1)).mean() for error in errors)
        return loss

    def _loss_of(self, image: Tensor, batch: Pairs) -> Tensor:
        made = image.to(torch.promote_types(image.dtype, torch.float32))
        return self.loss(made, reduced(batch.sharp.to(made.dtype), made.shape))

    @property
    def _wants_estimates(self) -> bool:
        return bool(self.hparams.intermediate_weight or self.hparams.psf_weight)

    def _trained(self) -> Callable[..., Any]:
        """What training calls: the network or its estimates, compiled where that is asked for."""
        if not self.hparams.compile:
            return self.network.estimates if self._wants_estimates else self.network
        if self._compiled is None:  # only now: copies of the module, as for the averaged weights, are made before
            self._compiled = torch.compile(self.network.estimates if self._wants_estimates else self.network.forward)
        return self._compiled

    def _psf(self, batch: Pairs) -> Tensor | None:
        """The true PSFs, if the network takes such."""
        return batch.motion.psf if self.takes_psf else None

    def check_steps(self) -> None:
        """Stops the training if too many steps in a row were skipped (on a GPU this waits for its work to end).

        Raises:
            Diverged: they were.
        """
        skipped, begin = self.guard.look()
        where = f"step {begin.step}, training batch {begin.batch} of seed {self.hparams.seed}"
        if skipped > self.hparams.nan_patience:
            raise Diverged(f"the loss or its gradients are no longer numbers ({where}); {self._advice}")
        if skipped > self._told:
            log.warning("the loss or its gradients are not finite: %s is skipped", where)
        self._told = skipped

    def check_weights(self) -> None:
        """Stops the training if any weight is not finite: no checkpoint must hold such. All processes ask at once.

        Raises:
            Diverged: one is not.
        """
        kept = self.network.state_dict().values()
        finite = all(bool(tensor.isfinite().all()) for tensor in kept if tensor.is_floating_point())
        if not self.trainer.strategy.reduce_boolean_decision(finite, all=True):
            where = f"epoch {self.current_epoch}, step {self.global_step}"
            raise Diverged(f"the weights are no longer numbers ({where}); {self._advice}")

    @property
    def _advice(self) -> str:
        rate = self.trainer.optimizers[0].defaults["lr"]
        return f"lower optimizer.lr ({rate}) or set trainer.gradient_clip_val"

    def on_train_epoch_end(self) -> None:
        self.check_steps()
        self.check_weights()
        total, count = self._epoch_loss()
        if count == 0:
            raise Diverged(f"no loss of epoch {self.current_epoch + 1} is a number; {self._advice}")
        self.log("train/loss", total / count)

    def validation_step(self, batch: Pairs, batch_idx: int) -> Restored:
        return self._evaluate(batch)

    def test_step(self, batch: Pairs, batch_idx: int) -> Restored:
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def configure_optimizers(self) -> dict[str, Any]:
        # A fused optimiser would undo the scaling of float16's gradients itself, after they are clipped.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = self._configure_optimizer({"fused": False} if scaled and "fused" in self.hparams.optimizer else {})
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.schedule(min(step / max(steps, 1), 1.0))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning refuses to clip for fused optimisers under any mixed precision; only a scaler would be in the way.
        parameters = list(self.network.parameters())
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in parameters if weight.grad is not None])
        if gradient_clip_val and gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        batch = self.current_epoch * len(self.trainer.train_dataloader) + self.trainer.fit_loop.epoch_loop.batch_idx
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self.guard.before_step(optimizer, None if scaled else norm, Place(self.global_step, batch))
        if norm.device.type == "cpu":
            self.check_steps()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["epoch_loss"] = self._epoch_loss()
        checkpoint["guard"] = self.guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.global_rank == 0:  # it is that of all processes
            self.loss_sum, self.loss_count = checkpoint["epoch_loss"]
        self.guard.load_state_dict(checkpoint["guard"])

    def _epoch_loss(self) -> tuple[float, int]:
        """The sum of the losses of the epoch so far, and over how many batches, of all processes: all must ask."""
        total, count = float(self.loss_sum), int(self.loss_count)
        if self.trainer.world_size == 1:
            return total, count
        both = torch.tensor([total, count], device=self.device)
        total, count = self.trainer.strategy.reduce(both, reduce_op="sum").tolist()
        return total, int(count)

    def _evaluate(self, batch: Pairs) -> Restored:
        restored = restore(self.network, *self._given(batch.blurred, self._psf(batch)))
        found, motion = restored.psf, batch.motion
        known = found is not None and motion is not None
        correlation = psf_correlation(found, motion.psf.to(found.device)) if known else None
        self.metrics.update(restored.images, batch.blurred, batch.sharp, correlation)
        return restored

    def _log_metrics(self, split: str) -> None:
        means = self.metrics.compute()
        self.metrics.reset()
        self.log_dict({f"{split}/{name}": value for name, value in means.items()}, sync_dist=True)

    def _configure_optimizer(self, changes: Mapping[str, Any]) -> torch.optim.Optimizer:
        config = {**self.hparams.optimizer, **changes}
        cls = find_class(config, "optimizer")
        if not issubclass(cls, torch.optim.Optimizer):
            raise UsageError(f"optimizer._target_={config['_target_']}: must be a torch.optim.Optimizer")
        if "lr" not in config and constructor_parameters(cls)["lr"].default is None:
            raise ArgumentError("lr", None, "a number")
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return build(config, "optimizer", params=learned)
