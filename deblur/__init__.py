"""Motion-blur image deblurring with neural networks.

`deblur.load(run)` gives the trained network of a run; the blurs are plain objects in `deblur.blur`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deblur.training.restorer import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # imported when it is used: the command line's help need not wait for torch
        from deblur.training.restorer import load

        return load
    raise AttributeError(f"module 'deblur' has no attribute {name!r}")
