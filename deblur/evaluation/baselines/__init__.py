"""Classical deconvolution given the true PSF: what a blind network is measured against."""

from deblur.evaluation.baselines.base import Baseline
from deblur.evaluation.baselines.choice import Choice, choose
from deblur.evaluation.baselines.richardson_lucy import RichardsonLucy
from deblur.evaluation.baselines.total_variation import TotalVariation
from deblur.evaluation.baselines.wiener import Wiener

BASELINES: tuple[type[Baseline], ...] = (Wiener, RichardsonLucy, TotalVariation)

__all__ = ["BASELINES", "Baseline", "Choice", "RichardsonLucy", "TotalVariation", "Wiener", "choose"]
