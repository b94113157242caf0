"""What a network is given, and what it is asked for: blind, kernel, nonblind. Pure PyTorch."""

from deblur.tasks.base import Blind, Task
from deblur.tasks.kernel import Kernel
from deblur.tasks.nonblind import NonBlind

__all__ = ["Blind", "Kernel", "NonBlind", "Task"]
